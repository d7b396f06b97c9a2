"""Reads one image: its row, through a cache, and its status document."""

import hashlib
import re
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from functools import cached_property
from typing import TypeVar
from uuid import UUID

import orjson

from gateway.http.json_document import JsonDocument
from gateway.http.preconditions import etag_of
from gateway.http.problems import Problem
from gateway.reading.kept import KeptForRows
from gateway.services.caching import ReadCache
from gateway.services.changes import Changes
from shared.contract.keys import Owner
from shared.ports import Index
from shared.read_model.documents import ImageRow, document, version

CACHED_ROWS = 2048
"""Rows that are cached, and rows whose document is kept until they change. A row has about 4 kB, and its document as
much again: at most 32 MB in all."""

NO_IMAGE = "there is no image with this id"
T = TypeVar("T")
_ID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", re.IGNORECASE)


@dataclass(frozen=True)
class StatusDocument:
    """The JSON of the status document of a row, and its ETag."""

    body: bytes
    etag: str


def status_document(row: ImageRow, base_url: str) -> StatusDocument:
    """The status document of a row."""
    body = orjson.dumps(document(row, base_url))
    return StatusDocument(body, etag_of(version(row), hashlib.sha256(body).hexdigest()[:32]))


class _Documents:
    """The status document of a row. It links to the events after a position, which seldom changes between two reads."""

    def __init__(self, row: ImageRow, base_url: str) -> None:
        self._status = status_document(row, base_url)
        self._events_url = f"{base_url}/images/{row.image_id}/events?last_event_id="
        self._position: str | None = None
        self._last = self._linked()

    def at(self, position: str | None) -> JsonDocument:
        """The document with the link to the events after this position."""
        if position != self._position:
            self._position, self._last = position, self._linked(position)
        return self._last

    def _linked(self, position: str | None = None) -> JsonDocument:
        url = self._events_url + position if position else None
        return JsonDocument(self._status.body, self._status.etag, monitor_url=url)


@dataclass(frozen=True)
class _Read:
    """A row, or None if there is no such image, and a position of events that it shows."""

    row: ImageRow | None
    position: str | None
    documents: KeptForRows[_Documents]

    @cached_property
    def document(self) -> JsonDocument | None:
        """The status document. It is made when a client first asks for it, and is in the cache then."""
        return None if self.row is None else self.documents.of(self.row).at(self.position)


class ImageRows:
    """Rows of images, cached for `ttl`. A write of this process invalidates the row at once."""

    def __init__(
        self,
        index: Index,
        changes: Changes,
        *,
        ttl: timedelta,
        base_url: str,
        indexed: Callable[[], str | None] = lambda: None,
    ) -> None:
        """`indexed` returns a position of the events that the index has; see `gateway.events.indexed`."""
        self._index = index
        self._documents = KeptForRows(lambda row: _Documents(row, base_url), CACHED_ROWS)
        self._indexed = indexed
        self._rows: ReadCache[UUID, _Read] = ReadCache("rows", ttl, CACHED_ROWS)
        changes.listen(self._invalidate, lambda image_id, _owner: image_id in self._rows)

    def _invalidate(self, image_id: UUID | None, owner: Owner) -> None:
        if image_id is None:
            self._rows.invalidate_values(lambda read: read.row is not None and read.row.owner == owner)
        else:
            self._rows.invalidate(image_id)

    async def find(self, image_id: UUID, *, fresh: bool = False) -> ImageRow | None:
        """The row, at most `ttl` old; None if there is no such image. Raises Unavailable."""
        return (await self._read(image_id, fresh)).row

    async def get(self, text: str, *, fresh: bool = False) -> ImageRow:
        """The row of the image with this id, as text. Raises Problem `not_found`, and Unavailable."""
        return _found((await self._read_text(text, fresh)).row)

    async def status(self, text: str, *, fresh: bool = False) -> JsonDocument:
        """The status document of the image with this id, as text. Raises Problem `not_found`, and Unavailable."""
        return _found((await self._read_text(text, fresh)).document)

    async def _read_text(self, text: str, fresh: bool) -> _Read:
        if _ID.fullmatch(text) is None:
            raise Problem("not_found", NO_IMAGE)
        return await self._read(UUID(text), fresh)

    async def _read(self, image_id: UUID, fresh: bool) -> _Read:
        async def load() -> _Read:
            # The position is taken before the row is read: an event in between is in the stream, and may be in the row.
            position = self._indexed()
            return _Read(await self._index.image(image_id), position, self._documents)

        return await self._rows.get(image_id, load, fresh=fresh)


def _found(value: T | None) -> T:
    if value is None:
        raise Problem("not_found", NO_IMAGE)
    return value
