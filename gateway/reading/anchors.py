"""Finds the place of a large offset in a list without reading all ids before it.

The list, newest first, is cut into segments of about STEP images. The first segment has a tenth of that, because it is
counted most often. An anchor is the id at the end of a segment. A deletion moves no id, so an anchor stays valid; only
the number of images in a segment becomes wrong. Before the gateway uses that number, it counts the segment again if

- this gateway has written or deleted an image in it (`mark_stale`),
- or the number is too old: older than `head_age` in the first segment, where uploads arrive, or older than COUNT_AGE
  in another segment. Only deletions and rows that are written late change the other segments.

An offset of STEP or more is therefore approximate. In the other segments it can miss changes of the last COUNT_AGE, if
another process made them. Smaller offsets and cursors use no anchors and are exact.
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
"""Images between two anchors. To find the first image of a page, the gateway reads STEP / 2 ids on average. A list of a
million images has 400 anchors."""
COUNT_AGE = timedelta(minutes=1)
MAX_OFFSET = 1_000_000
"""To read further, a client has to use a cursor. The first read at offset 100,000 took 5.7 s (docs/lists.md)."""


@dataclass
class _Segment:
    """Adjacent images of the list: from below the `end` of the previous segment down to this `end`, inclusive.

    `counted_at` is a time of the monotonic clock. `writes` is the number of changes that this process made.
    """

    end: UUID
    count: int
    counted_at: float
    writes: int = 0


class Anchors:
    """The segments of one list, from its start to the largest offset that a client has asked for."""

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
        self._growing = asyncio.Lock()

    def mark_stale(self, image_id: UUID) -> None:
        """Mark the segment of an image that this gateway wrote or removed; it is counted again before its next use."""
        self._notes += 1
        for segment in self._segments:
            if segment.end <= image_id:
                segment.counted_at = -math.inf
                segment.writes += 1
                return

    async def seek(self, offset: int, *, fresh: bool = False) -> tuple[UUID | None, int]:
        """Find the image at this offset.

        Returns (`bound`, `rest`): to reach the image, start below the id `bound` and skip `rest` images. `bound` is
        None at the start of the list. If the list has an image at the offset, `rest` is less than about two STEPs.
        `fresh` counts all segments on the way again. Raises Unavailable.
        """
        async with self._growing:
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
        """Count the stale segments down to the offset, each at most once even if writes continue."""
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
        """The segments from the start of the list to the one with the offset, by their present counts."""
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
        # If an image was written during the count, the count may or may not include it. The segment stays stale.
        if segment.writes == writes:
            segment.counted_at = started

    async def _split_head(self) -> None:
        """Cut the first segment, which has grown by uploads, into segments of the usual sizes."""
        head = self._segments[0]
        marks, rest = await self._walk(None, _just_below(head.end), head.count + self._step)
        if marks or rest:
            self._segments[:1] = [*marks, *rest]

    async def _grow(self, offset: int) -> None:
        """Add segments until they reach the offset, or until less than STEP images are left below them."""
        missing = offset + 1 - sum(segment.count for segment in self._segments)
        if missing > 0:
            below = self._segments[-1].end if self._segments else None
            marks, _ = await self._walk(below, None, missing)
            self._segments += marks

    async def _walk(self, below: UUID | None, above: UUID | None, images: int) -> tuple[list[_Segment], list[_Segment]]:
        """Read ids between the bounds and make segments of them, until the segments have at least `images` images.

        Returns two lists: the full segments, and the shorter last segment if the ids ended early (else empty).
        """
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
        """Join adjacent segments that deletions have made small. Drop segments beyond MAX_OFFSET."""
        kept: list[_Segment] = []
        covered = 0
        for segment in self._segments:
            if covered > MAX_OFFSET:
                break
            covered += segment.count
            # The first segment stays small.
            if len(kept) > 1 and kept[-1].count + segment.count <= self._step:
                segment.count += kept[-1].count
                segment.counted_at = min(segment.counted_at, kept.pop().counted_at)
            kept.append(segment)
        self._segments = kept


def _just_below(image_id: UUID) -> UUID:
    """The exclusive lower bound of a range whose last id is this one."""
    return UUID(int=image_id.int - 1)
