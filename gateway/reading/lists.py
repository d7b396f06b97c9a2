"""Lists of images: the query of a request, cursors, and cached pages."""

import asyncio
import base64
import hashlib
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from typing import Final
from urllib.parse import urlencode
from uuid import UUID

import orjson
from cachetools import LRUCache

from gateway.http.json_document import JsonDocument
from gateway.http.owner_query import owner_from_pairs
from gateway.http.problems import Problem
from gateway.reading.anchors import MAX_OFFSET, STEP, Anchors
from gateway.reading.kept import KeptForRows
from gateway.reading.timeline import GlobalTimeline, OwnerTimeline, Timeline
from gateway.services.caching import ReadCache
from gateway.services.changes import Changes
from shared.contract.keys import Owner, is_image_id
from shared.ports import Index
from shared.read_model.documents import listed_document

DEFAULT_LIMIT = 50
MAX_LIMIT = 500
CACHED_IMAGES: Final = 10_000
"""Images in all cached pages together. With 2 to 3 kB of JSON per image that is about 30 MB."""
KEPT_DOCUMENTS = 2048
"""Images whose JSON is kept with their rows, about 7 kB each. When a list has changed, most of its images have not."""
REMEMBERED_TIMELINES = 256
"""Lists whose anchors stay in memory. Each has at most a few hundred small objects."""
QUERIES_AT_ONCE = 64
"""Concurrent queries of all lists together. Without a bound, a burst of large offsets would delay uploads."""
GAP_MEMORY = timedelta(minutes=1)
"""How long the gateway's index skips a span of deleted rows. Without it, each list would read that span again."""
FILTER_BYTES = 8
_CURSOR = re.compile(r"[A-Za-z0-9_-]{32}")
"""Base64 of the 16 bytes of an id and of FILTER_BYTES."""


@dataclass(frozen=True)
class ListQuery:
    """A page: `limit` images of `owner` (None: of all owners), after `offset` images or below the id `after`."""

    owner: Owner | None
    limit: int = DEFAULT_LIMIT
    offset: int = 0
    after: UUID | None = None

    @classmethod
    def parse(cls, pairs: Iterable[tuple[str, str]]) -> "ListQuery":
        """Read query parameters. Raises Problem `invalid_owner`, `invalid_paging` or `invalid_cursor`."""
        pairs = list(pairs)
        owner = owner_from_pairs(pairs)
        limit = _number(pairs, "limit", DEFAULT_LIMIT, 1, MAX_LIMIT)
        offset = _number(pairs, "offset", 0, 0, MAX_OFFSET)
        cursor = _single(pairs, "cursor")
        if cursor is None:
            return cls(owner, limit, offset)
        if _single(pairs, "offset") is not None:
            raise Problem("invalid_paging", "send either `cursor` or `offset`, not both")
        return cls(owner, limit, 0, decode_cursor(cursor, owner))

    def url_after(self, last: UUID, base_url: str) -> str:
        """URL of the page that follows the image `last`."""
        parameters = [*self._selector, ("limit", str(self.limit)), ("cursor", encode_cursor(last, self.owner))]
        return f"{base_url}/images?{urlencode(parameters)}"

    def monitor_url(self, position: str, base_url: str) -> str:
        """URL of the events of the list's images after this position."""
        return f"{base_url}/events?{urlencode([*self._selector, ('last_event_id', position)])}"

    @property
    def _selector(self) -> list[tuple[str, str]]:
        return [("owner_type", self.owner.type), ("owner_id", self.owner.id)] if self.owner else []


def encode_cursor(last: UUID, owner: Owner | None) -> str:
    """The cursor of the page that starts below this image in the list of this owner."""
    return base64.urlsafe_b64encode(last.bytes + _filter_hash(owner)).decode()


def decode_cursor(text: str, owner: Owner | None) -> UUID:
    """The image of a cursor. Raises Problem `invalid_cursor` for an invalid one and for one of another list."""
    # The length and the letters are checked here, because the library also accepts `+` for `-`, `/` for `_`, and
    # padding where none belongs. One page would then have many URLs, each with its own copy in a CDN.
    raw = base64.urlsafe_b64decode(text) if _CURSOR.fullmatch(text) else b""
    if not raw or not is_image_id(image_id := UUID(bytes=raw[:16])):
        raise Problem("invalid_cursor", "this is not a cursor that the gateway has made")
    if raw[16:] != _filter_hash(owner):
        raise Problem("invalid_cursor", "this cursor is for a list with another owner filter")
    return image_id


def _filter_hash(owner: Owner | None) -> bytes:
    # The empty key is the list of all owners; the key of an owner is never empty.
    return hashlib.sha256(owner.key.encode() if owner else b"").digest()[:FILTER_BYTES]


def _single(pairs: Sequence[tuple[str, str]], name: str) -> str | None:
    values = [value for key, value in pairs if key == name]
    if len(values) > 1:
        raise Problem("invalid_paging", f"send `{name}` only once")
    return values[0] if values else None


def _number(pairs: Sequence[tuple[str, str]], name: str, default: int, least: int, most: int) -> int:
    text = _single(pairs, name)
    if text is None:
        return default
    # Only up to nine ASCII digits. int() would also accept signs, spaces and the digits of other scripts.
    if not re.fullmatch(r"[0-9]{1,9}", text) or not least <= int(text) <= most:
        more = "; use the cursor in the Link header to read further" if name == "offset" else ""
        raise Problem("invalid_paging", f"`{name}` must be an integer from {least} to {most}{more}")
    return int(text)


class Lists:
    """Pages of the list of all images and of each owner's list, cached for `ttl`.

    A write of this process invalidates the pages that it changes, so that a client reads its own writes.
    """

    def __init__(
        self,
        index: Index,
        changes: Changes,
        *,
        shards: int,
        ttl: timedelta,
        base_url: str,
        indexed: Callable[[], str | None] = lambda: None,
    ) -> None:
        """`indexed` returns a position of the events that the index has; see `gateway.events.indexed`."""
        self._index = index
        self._indexed = indexed
        self._ttl = ttl
        self._base_url = base_url
        self._pages: ReadCache[ListQuery, JsonDocument] = ReadCache("lists", ttl, CACHED_IMAGES)
        self._documents = KeptForRows(lambda row: orjson.dumps(listed_document(row, base_url)), KEPT_DOCUMENTS)
        self._days: ReadCache[None, Sequence[date]] = ReadCache("days", ttl, 1)
        self._anchors: LRUCache[Owner | None, Anchors] = LRUCache(REMEMBERED_TIMELINES)
        slots = asyncio.Semaphore(QUERIES_AT_ONCE)
        self._all_images = GlobalTimeline(index, shards, lambda: self._days.get(None, index.days), slots)
        changes.listen(self._invalidate, self._shows)

    async def page(self, query: ListQuery, *, fresh: bool = False) -> JsonDocument:
        """The page. `fresh` reads it without any cache. Raises Unavailable."""
        if fresh:
            self._days.invalidate(None)
        return await self._pages.get(query, lambda: self._load(query, fresh), fresh=fresh, weight=query.limit)

    async def _load(self, query: ListQuery, fresh: bool) -> JsonDocument:
        # The position is taken before the page is read: an event in between is in the stream, and may be in the page.
        position = self._indexed()
        timeline = self._timeline(query.owner)
        below, skip = query.after, query.offset
        if skip >= STEP:
            below, skip = await self._anchors_of(query.owner, timeline).seek(skip, fresh=fresh)
        page = await timeline.page(below=below, skip=skip, limit=query.limit)
        body = b"[%b]" % b",".join(map(self._documents.of, page.rows))
        next_url = query.url_after(page.last, self._base_url) if page.last else None
        monitor_url = query.monitor_url(position, self._base_url) if position else None
        return JsonDocument(body, hashlib.sha256(body).hexdigest()[:32], next_url, monitor_url)

    def _timeline(self, owner: Owner | None) -> Timeline:
        return OwnerTimeline(self._index, owner) if owner else self._all_images

    def _anchors_of(self, owner: Owner | None, timeline: Timeline) -> Anchors:
        return self._anchors.setdefault(owner, Anchors(timeline, self._ttl))

    def _shows(self, _image_id: UUID, owner: Owner) -> bool:
        return self._pages.holds(lambda query: query.owner in (None, owner))

    def _invalidate(self, image_id: UUID | None, owner: Owner) -> None:
        self._days.invalidate(None)
        self._pages.invalidate_where(lambda query: query.owner in (None, owner))
        if image_id is None:
            # In the list of all images, only the deleted images that this process knows change a count at once.
            self._anchors.pop(owner, None)
            return
        for key in (None, owner):
            if key in self._anchors:
                self._anchors[key].mark_stale(image_id)
