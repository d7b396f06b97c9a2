"""Reads one image: its row, through a cache, and its status document."""

import hashlib
import json
import re
from dataclasses import dataclass
from datetime import timedelta
from uuid import UUID

from gateway.http.problems import Problem
from gateway.services.caching import ReadCache
from gateway.services.changes import Changes
from shared.contract.keys import Owner
from shared.ports import Index
from shared.read_model.documents import ImageRow, document

CACHED_ROWS = 4096
"""A row has about 4 kB, so the cache has at most 16 MB."""

_ID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", re.IGNORECASE)


class ImageRows:
    """Rows of images, cached for `ttl`. A write of this process invalidates the row at once."""

    def __init__(self, index: Index, changes: Changes, ttl: timedelta) -> None:
        self._index = index
        self._rows: ReadCache[UUID, ImageRow | None] = ReadCache("rows", ttl, CACHED_ROWS)
        changes.listen(self._invalidate)

    def _invalidate(self, image_id: UUID | None, owner: Owner) -> None:
        if image_id is None:
            self._rows.invalidate_values(lambda row: row is not None and row.owner == owner)
        else:
            self._rows.invalidate(image_id)

    async def find(self, image_id: UUID, *, fresh: bool = False) -> ImageRow | None:
        """The row, at most `ttl` old; None if there is no such image. Raises Unavailable."""
        return await self._rows.get(image_id, lambda: self._index.image(image_id), fresh=fresh)

    async def get(self, text: str, *, fresh: bool = False) -> ImageRow:
        """The row of the image with this id, as text. Raises Problem `not_found`, and Unavailable."""
        row = await self.find(UUID(text), fresh=fresh) if _ID.fullmatch(text) else None
        if row is None:
            raise Problem("not_found", "there is no image with this id")
        return row


@dataclass(frozen=True)
class StatusDocument:
    """A status document as the client gets it. `etag` has no quotes."""

    body: bytes
    etag: str


def status_document(row: ImageRow, base_url: str) -> StatusDocument:
    """The status document of a row."""
    body = json.dumps(document(row, base_url), separators=(",", ":")).encode()
    return StatusDocument(body, hashlib.sha256(body).hexdigest()[:32])
