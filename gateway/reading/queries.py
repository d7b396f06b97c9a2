"""What can be asked about one image: its row, its status document, and which object its bytes are."""

import hashlib
import json
import re
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from gateway.http.problems import Problem
from gateway.reading.lists import Lists
from gateway.reading.media import Served
from gateway.services.caching import ReadCache
from gateway.services.container import Services
from shared.contract.events import Original, Variant
from shared.contract.keys import MediaPath, Owner
from shared.contract.ladder import FULL
from shared.read_model.documents import ImageRow, document, served_original, status

CACHED_ROWS = 4096
"""Rows of some 4 kB each."""
RETRY_SOON = {"Retry-After": "1"}
"""A rendered image is ready within a second or two on an idle stack."""

_ID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", re.IGNORECASE)


@dataclass(frozen=True)
class StatusDocument:
    """A status document as it is sent; `etag` without quotes."""

    body: bytes
    etag: str


class Queries:
    """The gateway's reads. Rows and pages are cached for `list_cache_ttl`; own writes are seen at once."""

    def __init__(self, services: Services) -> None:
        self._index = services.index
        self._settings = services.settings
        settings = services.settings
        self._rows: ReadCache[UUID, ImageRow | None] = ReadCache("rows", settings.list_cache_ttl, CACHED_ROWS)
        self.lists = Lists(
            services.index,
            services.changes,
            shards=settings.day_shards,
            ttl=settings.list_cache_ttl,
            base_url=settings.public_base_url,
        )
        services.changes.listen(self._note)

    def _note(self, image_id: UUID, _owner: Owner) -> None:
        self._rows.forget(image_id)

    async def row(self, image_id: UUID, *, fresh: bool = False) -> ImageRow | None:
        """The image's row, at most `list_cache_ttl` old; None where there is none. Raises Unavailable."""
        return await self._rows.get(image_id, lambda: self._index.image(image_id), fresh=fresh)

    async def image(self, text: str, *, fresh: bool = False) -> ImageRow:
        """The row of the image with this id, as text. Raises Problem `not_found`, Unavailable."""
        row = await self.row(UUID(text), fresh=fresh) if _ID.fullmatch(text) else None
        if row is None:
            raise Problem("not_found", "there is no image with this id")
        return row

    def status_document(self, row: ImageRow) -> StatusDocument:
        """The status document of a row."""
        body = json.dumps(document(row, self._settings.public_base_url), separators=(",", ":")).encode()
        return StatusDocument(body, hashlib.sha256(body).hexdigest()[:32])

    def served(self, row: ImageRow, variant: str | None) -> Served:
        """The object that answers `GET /images/{id}`: the variant, or the original if None.

        Where originals are not public, `full` stands in for the original. Raises Problem `not_found`,
        `no_such_variant`, `variant_not_ready` and `render_failed`.
        """
        if variant is None and self._settings.public_originals:
            original = served_original(row)
            if original is None:
                raise Problem("not_found", "there is no image with this id")
            return _original(original)
        return self._variant(row, FULL if variant is None else variant)

    def _variant(self, row: ImageRow, name: str) -> Served:
        if row.current is not None:
            found = next((variant for variant in row.current.variants if variant.name == name), None)
            if found is not None:
                return _rendered(row.current.original, found)
            names: tuple[str, ...] = tuple(variant.name for variant in row.current.variants)
        else:
            names = self._settings.ladder.names
        if name not in names:
            raise Problem("no_such_variant", f"the variants are {', '.join(names)}")
        if status(row) == "failed" and row.outcome is not None:
            reason: dict[str, Any] = {"type": row.outcome.error_type, "detail": row.outcome.error_detail}
            raise Problem("render_failed", f"the image could not be rendered: {reason['detail']}", error=reason)
        raise Problem("variant_not_ready", "the image is still being processed", headers=RETRY_SOON)

    def media(self, row: ImageRow, path: MediaPath) -> Served:
        """The object under a media path of this image. An older revision's is named as such files are in the bucket.

        Raises Problem `no_such_media` for an original where originals are not public.
        """
        if path.variant is None and not self._settings.public_originals:
            raise Problem("no_such_media", "originals are not public here")
        current = row.current
        for variant in current.variants if current else ():
            if current and variant.path == path.path:
                return _rendered(current.original, variant)
        for original in (served_original(row), row.request):
            if original and original.path == path.path:
                return _original(original)
        return Served(path.path, path.content_type, path.path.rpartition("/")[2])


def _original(original: Original) -> Served:
    return Served(original.path, original.content_type, original.file_name)


def _rendered(original: Original, variant: Variant) -> Served:
    stem = original.file_name.rpartition(".")[0] or original.file_name
    return Served(variant.path, variant.content_type, f"{stem}-{variant.name}.webp")
