"""Deep offsets: marks along a timeline, with the number of images between each two, so that a skip need not read them.

The timeline is cut into segments of about STEP images, the newest of a tenth of that, as it is counted most often. A
segment is bounded by ids, which no deletion moves; only its count can age. It is counted again before use

- at once after this gateway wrote or deleted an image in it (`note`),
- after `head_age` for the newest segment, which grows, and after COUNT_AGE for the others, which only deletions and
  late rows change.

So an offset of STEP or more is off by at most what *other* gateways and late deletions of the log changed in the older
segments within COUNT_AGE. Smaller offsets and cursors do not come here; they are exact.
"""

import asyncio
import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from uuid import UUID

from gateway.reading.timeline import Timeline

STEP = 2_500
"""Images between two marks. Half of it is what a page reads past as ids, on average; a million needs 400 marks."""
COUNT_AGE = timedelta(minutes=1)
MAX_OFFSET = 1_000_000
"""Beyond it only a cursor goes: a first walk that far already takes seconds."""


@dataclass
class _Segment:
    """Images from below the previous segment's `end` down to `end`, inclusive. Times are of the monotonic clock."""

    end: UUID
    count: int
    counted_at: float
    writes: int = 0


class Anchors:
    """Marks of one timeline, grown as far as offsets have asked for."""

    def __init__(
        self, timeline: Timeline, head_age: timedelta, clock: Callable[[], float] = time.monotonic, step: int = STEP
    ) -> None:
        self._timeline = timeline
        self._head_age = head_age.total_seconds()
        self._clock = clock
        self._step = step
        self._head_step = max(1, step // 10)
        self._segments: list[_Segment] = []
        self._notes = 0
        self._walking = asyncio.Lock()

    def mark_stale(self, image_id: UUID) -> None:
        """An image was written or removed: its segment's count no longer holds."""
        self._notes += 1
        for segment in self._segments:
            if segment.end <= image_id:
                segment.counted_at = -math.inf
                segment.writes += 1
                return

    async def seek(self, offset: int, *, fresh: bool = False) -> tuple[UUID | None, int]:
        """Bound and rest: the image at `offset` is the one at `rest` among those below the bound. `fresh`: count all.

        `rest` is less than two STEPs or so, unless fewer than a STEP of images are left below the bound.
        """
        async with self._walking:
            await self._recount(offset, self._clock() if fresh else -math.inf)
            await self._grow(offset)
            self._tidy()
            below, rest = None, offset
            for segment in self._segments:
                if rest < segment.count:
                    break
                below, rest = segment.end, rest - segment.count
            return below, rest

    async def _recount(self, offset: int, not_before: float) -> None:
        """Count what is too old among the segments that the offset passes; each once, however many writes there are."""
        counted: set[UUID] = set()
        while True:
            stale = [
                (place, segment)
                for place, segment in enumerate(self._passed(offset))
                if segment.end not in counted and self._is_stale(place, segment, not_before)
            ]
            if not stale:
                break
            counted.update(segment.end for _, segment in stale)
            await asyncio.gather(*(self._count(place, segment) for place, segment in stale))
        if self._segments and self._segments[0].count >= 2 * self._head_step:
            await self._split_head()

    def _passed(self, offset: int) -> list[_Segment]:
        """The segments down to the one with the offset, as far as the counts are to be believed."""
        passed = []
        for segment in self._segments:
            passed.append(segment)
            if offset < segment.count:
                break
            offset -= segment.count
        return passed

    def _is_stale(self, place: int, segment: _Segment, not_before: float) -> bool:
        age = COUNT_AGE.total_seconds() if place else self._head_age
        return segment.counted_at < max(self._clock() - age, not_before)

    async def _count(self, place: int, segment: _Segment) -> None:
        below = self._segments[place - 1].end if place else None
        started, writes = self._clock(), segment.writes
        segment.count = await self._timeline.count(below=below, above=_just_below(segment.end))
        # A write noted meanwhile may or may not be in the count: it stays stale.
        if segment.writes == writes:
            segment.counted_at = started

    async def _split_head(self) -> None:
        """Mark what has been uploaded since the newest mark, a step at a time."""
        head = self._segments[0]
        marks, rest = await self._walk(None, _just_below(head.end), head.count + self._step)
        if marks or rest:
            self._segments[:1] = [*marks, *rest]

    async def _grow(self, offset: int) -> None:
        """Mark the way down to the offset; what is left below the last mark is less than a step then, or not needed."""
        missing = offset + 1 - sum(segment.count for segment in self._segments)
        if missing > 0:
            below = self._segments[-1].end if self._segments else None
            marks, _ = await self._walk(below, None, missing)
            self._segments += marks

    async def _walk(self, below: UUID | None, above: UUID | None, images: int) -> tuple[list[_Segment], list[_Segment]]:
        """Whole segments for at least so many images between the bounds, and where these end before, the rest."""
        marks: list[_Segment] = []
        rest: list[_Segment] = []
        notes = self._notes
        while images > 0 and not rest:
            started = self._clock()
            step = self._step if below else self._head_step
            ids = await self._timeline.ids(below=below, above=above, limit=step)
            if not ids:
                break
            below = ids[-1]
            (marks if len(ids) == step else rest).append(_Segment(below, len(ids), started))
            images -= len(ids)
        if self._notes != notes:
            for mark in (*marks, *rest):
                mark.counted_at = -math.inf
        return marks, rest

    def _tidy(self) -> None:
        """Join neighbours that deletions have made small, and drop marks that no offset can reach."""
        kept: list[_Segment] = []
        covered = 0
        for segment in self._segments:
            if covered > MAX_OFFSET:
                break
            covered += segment.count
            # The newest one stays by itself, small.
            if len(kept) > 1 and kept[-1].count + segment.count <= self._step:
                segment.count += kept[-1].count
                segment.counted_at = min(segment.counted_at, kept.pop().counted_at)
            kept.append(segment)
        self._segments = kept


def _just_below(image_id: UUID) -> UUID:
    """Exclusive lower bound that lets the id itself in."""
    return UUID(int=image_id.int - 1)
