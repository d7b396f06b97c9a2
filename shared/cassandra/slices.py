"""Reads of a partition of the index in slices of time, so that neither many rows nor many deletions end them.

Cassandra fails a read that passes 100,000 deleted rows. UUIDv7 ids are times, so such a read is cut into parts of equal
time, again where that is not enough, and the cuts are remembered for the next read. Remembering cuts is never wrong:
every slice within the bounds is read again, whatever was found there before.

Passing many deletions stays slow all the same. Who asks often may also have gaps remembered: spans without a row that
took long to pass are skipped for a while. New images are newer than any gap; what is written late for an image of more
than an hour ago shows when the gap is forgotten.
"""

import itertools
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TypeVar
from uuid import UUID

from cachetools import LRUCache

from shared.contract.keys import DayShard, Partition
from shared.errors import TooManyDeletions

T = TypeVar("T")

MAX_ID = UUID(int=(1 << 128) - 1)
MIN_ID = UUID(int=0)
PAGE = 5000
"""Most rows of one query: the driver's page, so that every answer is whole."""
PARTS = 8
"""Slices that a failed read is cut into: each failure costs as much as dozens of reads of empty slices."""
REMEMBERED_PARTITIONS = 1024
SLOW_SECONDS = 0.02
"""Time after which a span without rows is worth remembering: an empty one takes a millisecond or two."""
GAP_AGE = timedelta(hours=1)
"""A gap ends this long ago: rows of images that old are complete but for replays."""
FIRST_UUID7_MS = int(datetime(2020, 1, 1, tzinfo=UTC).timestamp() * 1000)
"""Lower end of the time span of an owner's images: before it nobody made UUIDv7."""

Slice = tuple[UUID, UUID]
"""Bounds, the newer first; both exclusive."""


@dataclass(frozen=True)
class _Gap:
    """No id lies strictly between the bounds, or so it was up to `until` on the monotonic clock."""

    upper: UUID
    lower: UUID
    until: float


class Slices:
    """Reads slice by slice, newest first, and remembers where partitions had to be cut, and gaps for `gap_memory`."""

    def __init__(self, gap_memory: timedelta = timedelta(0)) -> None:
        self._cuts: LRUCache[Partition, list[UUID]] = LRUCache(REMEMBERED_PARTITIONS)
        self._gaps: LRUCache[Partition, list[_Gap]] = LRUCache(REMEMBERED_PARTITIONS)
        self._gap_memory = gap_memory.total_seconds()

    def forget(self) -> None:
        """Remember nothing: the partitions are another keyspace's from now on."""
        self._cuts.clear()
        self._gaps.clear()

    async def newest(
        self,
        partition: Partition,
        read: Callable[[UUID, UUID, int], Awaitable[Sequence[T]]],
        id_of: Callable[[T], UUID],
        *,
        below: UUID | None,
        above: UUID | None,
        limit: int,
    ) -> list[T]:
        """Up to `limit` rows strictly between the bounds; `read(below, above, limit)` is asked for at most PAGE."""
        found: list[T] = []
        pending = self._slices(partition, below, above)
        empty = _EmptyRun()
        while pending and len(found) < limit:
            upper, lower = pending.pop()
            most = min(limit - len(found), PAGE)
            empty.enter(upper)
            try:
                part = await read(upper, lower, most)
            except TooManyDeletions as error:
                pending += self._parts(partition, upper, lower, error)
                continue
            found += part
            self._learn(partition, empty.leave(lower, [id_of(row) for row in part[:1]]))
            if len(part) == most:
                pending.append((id_of(part[-1]), lower))
        return found

    async def total(
        self,
        partition: Partition,
        count: Callable[[UUID, UUID], Awaitable[int]],
        *,
        below: UUID | None,
        above: UUID | None,
    ) -> int:
        """Sum of `count(below, above)` over the slices between the bounds."""
        total = 0
        pending = self._slices(partition, below, above)
        while pending:
            upper, lower = pending.pop()
            try:
                total += await count(upper, lower)
            except TooManyDeletions as error:
                pending += self._parts(partition, upper, lower, error)
        return total

    def _slices(self, partition: Partition, below: UUID | None, above: UUID | None) -> list[Slice]:
        """Slices between the bounds, the oldest first, without the gaps."""
        upper, lower = below or MAX_ID, above or MIN_ID
        cuts = [cut for cut in self._cuts.get(partition, []) if lower < cut < upper]
        slices = [(newer, older) for older, newer in itertools.pairwise([lower, *cuts, upper])]
        now = time.monotonic()
        for gap in self._gaps.get(partition, []):
            if now < gap.until:
                slices = [piece for found in slices for piece in _without(found, gap)]
        return slices

    def _learn(self, partition: Partition, run: tuple[UUID, UUID, float]) -> None:
        """Remember a span without rows if it took long and is old enough."""
        upper, lower, seconds = run
        upper = min(upper, cut_at(int((time.time() - GAP_AGE.total_seconds()) * 1000)))
        now = time.monotonic()
        if seconds >= SLOW_SECONDS and self._gap_memory and upper > lower:
            kept = [
                gap
                for gap in self._gaps.get(partition, [])
                if now < gap.until and not (gap.upper <= upper and gap.lower >= lower)
            ]
            self._gaps[partition] = [*kept, _Gap(upper, lower, now + self._gap_memory)]

    def _parts(self, partition: Partition, upper: UUID, lower: UUID, error: TooManyDeletions) -> list[Slice]:
        """A slice in PARTS or fewer, the oldest first. Raises the error where all of it is one millisecond."""
        first, last = _span_ms(partition)
        newest = min(upper.int >> 80, last)
        oldest = max(lower.int >> 80, first)
        if newest - oldest < 2:
            # Ids of clocks that were wrong lie outside of the span: cut between the bounds themselves.
            newest, oldest = upper.int >> 80, lower.int >> 80
        if newest - oldest < 2:
            raise error
        new = sorted(
            {cut_at(oldest + (newest - oldest) * part // PARTS) for part in range(1, PARTS)} - {cut_at(oldest)}
        )
        self._cuts[partition] = sorted({*self._cuts.get(partition, []), *new})
        return [(newer, older) for older, newer in itertools.pairwise([lower, *new, upper])]


class _EmptyRun:
    """The span that was read since the last row, and the time that it took."""

    def __init__(self) -> None:
        self._upper: UUID | None = None
        self._lower: UUID | None = None
        self._started = 0.0

    def enter(self, upper: UUID) -> None:
        """A slice below this bound is about to be read. One that does not follow the last one begins a new run."""
        if self._upper is None or (self._lower is not None and self._lower != upper):
            self._upper, self._started = upper, time.monotonic()
        self._lower = None

    def leave(self, lower: UUID, first: Sequence[UUID]) -> tuple[UUID, UUID, float]:
        """The slice down to `lower` was read; `first` is its newest row, if any. The run so far, with its seconds."""
        assert self._upper is not None
        run = (self._upper, first[0] if first else lower, time.monotonic() - self._started)
        if first:
            self._upper = None
        self._lower = lower
        return run


def _without(found: Slice, gap: _Gap) -> list[Slice]:
    """What is left of a slice, the older part first. The gap's own bounds may be ids and stay inside."""
    upper, lower = found
    if gap.upper <= lower or gap.lower >= upper:
        return [found]
    parts = [(UUID(int=gap.lower.int + 1), lower), (upper, UUID(int=gap.upper.int - 1))]
    return [(newer, older) for newer, older in parts if newer.int - older.int > 1]


def cut_at(milliseconds: int) -> UUID:
    """A bound between the ids made before this Unix time and those made from it on.

    Version 7, because Cassandra orders by version first, and still so for its two neighbours, hence the last bit;
    variant zero, so that no id equals it.
    """
    return UUID(int=(milliseconds << 80) | (7 << 76) | 1)


def _span_ms(partition: Partition) -> tuple[int, int]:
    """Unix times between which the ids of a partition were made."""
    if isinstance(partition, DayShard):
        start = datetime(partition.day.year, partition.day.month, partition.day.day, tzinfo=UTC)
        return int(start.timestamp() * 1000), int((start + timedelta(days=1)).timestamp() * 1000)
    return FIRST_UUID7_MS, int(time.time() * 1000) + 1
