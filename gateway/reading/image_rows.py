"""Reads one image: its row, through a cache, and its status document."""

import hashlib
import json
import re
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from uuid import UUID

from gateway.http.preconditions import etag_of
from gateway.http.problems import Problem
from gateway.services.caching import ReadCache
from gateway.services.changes import Changes
from shared.contract.keys import Owner
from shared.ports import Index
from shared.read_model.documents import ImageRow, document, version

CACHED_ROWS = 4096
"""A row has about 4 kB, so the cache has at most 16 MB."""

_ID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", re.IGNORECASE)


@dataclass(frozen=True)
class _Read:
    """A row, or None if there is no such image, and a position of events that it shows."""

    row: ImageRow | None
    position: str | None


class ImageRows:
    """Rows of images, cached for `ttl`. A write of this process invalidates the row at once."""

    def __init__(
        self, index: Index, changes: Changes, ttl: timedelta, indexed: Callable[[], str | None] = lambda: None
    ) -> None:
        """`indexed` returns a position of the events that the index has; see `gateway.events.indexed`."""
        self._index = index
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
        return (await self.get_with_position(text, fresh=fresh))[0]

    async def get_with_position(self, text: str, *, fresh: bool = False) -> tuple[ImageRow, str | None]:
        """The same, and a position of the events that the row shows. A stream from there on has all later ones."""
        read = await self._read(UUID(text), fresh) if _ID.fullmatch(text) else None
        if read is None or read.row is None:
            raise Problem("not_found", "there is no image with this id")
        return read.row, read.position

    async def _read(self, image_id: UUID, fresh: bool) -> _Read:
        async def load() -> _Read:
            # The position is taken before the row is read: an event in between is in the stream, and may be in the row.
            position = self._indexed()
            return _Read(await self._index.image(image_id), position)

        return await self._rows.get(image_id, load, fresh=fresh)


@dataclass(frozen=True)
class StatusDocument:
    """A status document as the client gets it. `etag` has no quotes."""

    body: bytes
    etag: str


def status_document(row: ImageRow, base_url: str) -> StatusDocument:
    """The status document of a row."""
    body = json.dumps(document(row, base_url), separators=(",", ":")).encode()
    return StatusDocument(body, etag_of(version(row), hashlib.sha256(body).hexdigest()[:32]))
