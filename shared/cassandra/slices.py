"""Reads a partition of the index in slices of time, so that many rows or many deletions do not make a read fail.

Cassandra fails a read that scans 100,000 deleted rows. An id is a UUIDv7 and contains a time. So a failed read is cut
into slices of equal time. A slice that fails is cut again. The cuts are kept for the next read of the partition. They
never make a result stale, because each read queries every slice.

A partition can also have ghosts: rows that are no image (`shared.read_model.tables`). A read passes them and goes on
below the last row that it got, until it has enough images or the rows end.

A scan of many deleted rows is slow even if it succeeds. If `gap_memory` is set, gaps are kept too. A gap is a span
that has no rows and was slow to scan. Reads skip a gap until `gap_memory` has passed. A gap contains only ids that are
more than an hour old, so a new image is never in one, unless the clock that made its id was behind. If this process
writes a row into a gap, it drops the gap. If another process does, reads return the row only after the gap has expired.
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
"""Maximum number of rows of one query. It is the driver's page size, so that a result is never split into pages."""
PARTS = 8
"""Number of slices into which a failed read is cut. A failed read costs as much as dozens of reads of empty slices, so
many slices at once are cheaper than several rounds of cutting."""
PASSING = 100
"""Minimum number of rows of the next query after one that returned ghosts. So a read of a few images passes hundreds of
ghosts in a few queries."""
REMEMBERED_PARTITIONS = 1024
"""Number of partitions whose cuts and gaps are kept; the least recently used ones are dropped."""
SLOW_SECONDS = 0.02
"""A span without rows is kept as a gap if its scan took at least so long. Without deletions a scan takes 1 to 2 ms."""
GAP_AGE = timedelta(hours=1)
"""Minimum age of the ids in a gap. An image of this age gets a new row only from a replay."""
FIRST_UUID7_MS = int(datetime(2020, 1, 1, tzinfo=UTC).timestamp() * 1000)
"""Start of the time span of an owner's images, in ms since 1970. There were no UUIDv7 ids before."""

Slice = tuple[UUID, UUID]
"""Two exclusive bounds, the newer one first."""


@dataclass(frozen=True)
class _Gap:
    """There was no row between the exclusive bounds. The gap expires at `until` on the monotonic clock."""

    upper: UUID
    lower: UUID
    until: float


class Slices:
    """Reads partitions slice by slice, the newest slice first. Keeps the cuts, and keeps gaps for `gap_memory`."""

    def __init__(self, gap_memory: timedelta = timedelta(0)) -> None:
        self._cuts: LRUCache[Partition, list[UUID]] = LRUCache(REMEMBERED_PARTITIONS)
        self._gaps: LRUCache[Partition, list[_Gap]] = LRUCache(REMEMBERED_PARTITIONS)
        self._gap_memory = gap_memory.total_seconds()
        self._started = time.time() - time.monotonic()

    def written(self, image_id: UUID) -> None:
        """Drop each gap that contains this id, because a row of it was written."""
        for partition, gaps in list(self._gaps.items()):
            self._gaps[partition] = [gap for gap in gaps if not gap.lower < image_id < gap.upper]

    def forget(self) -> None:
        """Forget all cuts and gaps, because the next reads are of another keyspace."""
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
        counts: Callable[[T], bool] = lambda _: True,
    ) -> list[T]:
        """Up to `limit` rows between the exclusive bounds, the newest first; rows that do not count are left out.

        `read(below, above, limit)` reads one slice, with a `limit` of at most PAGE. Raises TooManyDeletions if a
        slice fails that cannot be cut further.
        """
        found: list[T] = []
        least = 1
        pending = self._slices(partition, below, above)
        empty = _EmptyRun()
        while pending and len(found) < limit:
            upper, lower = pending.pop()
            most = min(max(limit - len(found), least), PAGE)
            empty.enter(upper)
            try:
                part = await read(upper, lower, most)
            except TooManyDeletions as error:
                pending += self._parts(partition, upper, lower, error)
                continue
            counted = [row for row in part if counts(row)]
            found += counted
            least = 1 if len(counted) == len(part) else PASSING
            self._learn(partition, empty.leave(lower, [id_of(row) for row in part[:1]]))
            if len(part) == most:
                pending.append((id_of(part[-1]), lower))
        return found[:limit]

    async def total(
        self,
        partition: Partition,
        count: Callable[[UUID, UUID], Awaitable[int]],
        *,
        below: UUID | None,
        above: UUID | None,
    ) -> int:
        """Sum of `count(below, above)` over the slices between the bounds.

        Raises TooManyDeletions if a slice fails that cannot be cut further.
        """
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
        """The slices between the bounds, without the gaps, the oldest slice first."""
        upper, lower = below or MAX_ID, above or MIN_ID
        cuts = [cut for cut in self._cuts.get(partition, []) if lower < cut < upper]
        slices = [(newer, older) for older, newer in itertools.pairwise([lower, *cuts, upper])]
        now = time.monotonic()
        for gap in self._gaps.get(partition, []):
            if now < gap.until:
                slices = [piece for found in slices for piece in _without(found, gap)]
        return slices

    def _learn(self, partition: Partition, run: tuple[UUID, UUID, float]) -> None:
        """Keep a span without rows as a gap, if its scan was slow and its ids are old enough."""
        upper, lower, seconds = run
        upper = min(upper, cut_at(int((self._time_of_day() - GAP_AGE.total_seconds()) * 1000)))
        now = time.monotonic()
        if seconds >= SLOW_SECONDS and self._gap_memory and upper > lower:
            kept = [
                gap
                for gap in self._gaps.get(partition, [])
                if now < gap.until and not (gap.upper <= upper and gap.lower >= lower)
            ]
            self._gaps[partition] = [*kept, _Gap(upper, lower, now + self._gap_memory)]

    def _time_of_day(self) -> float:
        """The earlier of two times in seconds since 1970: by the clock, and by the clock at the start of the process.

        A gap that was kept while the clock was three years ahead hid new images for a minute.
        """
        return min(time.time(), self._started + time.monotonic())

    def _parts(self, partition: Partition, upper: UUID, lower: UUID, error: TooManyDeletions) -> list[Slice]:
        """Cut a slice into at most PARTS slices and keep the cuts; returns the slices, the oldest first.

        Raises `error` if the slice is only a millisecond long and cannot be cut.
        """
        first, last = _span_ms(partition)
        newest = min(upper.int >> 80, last)
        oldest = max(lower.int >> 80, first)
        if newest - oldest < 2:
            # The ids were made by a wrong clock and lie outside of the partition's time span. Cut between the bounds
            # of the slice instead.
            newest, oldest = upper.int >> 80, lower.int >> 80
        if newest - oldest < 2:
            raise error
        new = sorted(
            {cut_at(oldest + (newest - oldest) * part // PARTS) for part in range(1, PARTS)} - {cut_at(oldest)}
        )
        self._cuts[partition] = sorted({*self._cuts.get(partition, []), *new})
        return [(newer, older) for older, newer in itertools.pairwise([lower, *new, upper])]


class _EmptyRun:
    """A run: the span without rows since the last row that was found, and how long its scan has taken."""

    def __init__(self) -> None:
        self._upper: UUID | None = None
        self._lower: UUID | None = None
        self._started = 0.0

    def enter(self, upper: UUID) -> None:
        """Call this before reading the slice below `upper`.

        If this slice is not adjacent to the slice that was read before it, a new run starts.
        """
        if self._upper is None or (self._lower is not None and self._lower != upper):
            self._upper, self._started = upper, time.monotonic()
        self._lower = None

    def leave(self, lower: UUID, first: Sequence[UUID]) -> tuple[UUID, UUID, float]:
        """Call this after reading the slice down to `lower`; `first` holds the id of its newest row, if it has one.

        Returns the run as (upper bound, lower bound, seconds). It ends at that row, or at `lower` if the slice has no
        row.
        """
        assert self._upper is not None
        run = (self._upper, first[0] if first else lower, time.monotonic() - self._started)
        if first:
            self._upper = None
        self._lower = lower
        return run


def _without(found: Slice, gap: _Gap) -> list[Slice]:
    """The parts of a slice that lie outside of a gap, the older part first.

    The bounds of the gap are exclusive, so there may be rows at these ids. The parts include them.
    """
    upper, lower = found
    if gap.upper <= lower or gap.lower >= upper:
        return [found]
    parts = [(UUID(int=gap.lower.int + 1), lower), (upper, UUID(int=gap.upper.int - 1))]
    return [(newer, older) for newer, older in parts if newer.int - older.int > 1]


def cut_at(milliseconds: int) -> UUID:
    """A bound that separates the ids made before this Unix time (in ms) from the later ones.

    The bound has the layout of a UUIDv7:
    - Version 7, because Cassandra orders UUIDs by version first.
    - Variant zero, which no real id has, so that the bound is never equal to an id.
    - The last bit is set. If it were zero, subtracting one would borrow from the version and make it 6.
    """
    return UUID(int=(milliseconds << 80) | (7 << 76) | 1)


def _span_ms(partition: Partition) -> tuple[int, int]:
    """Unix times in ms between which the ids of a partition were made."""
    if isinstance(partition, DayShard):
        start = datetime(partition.day.year, partition.day.month, partition.day.day, tzinfo=UTC)
        return int(start.timestamp() * 1000), int((start + timedelta(days=1)).timestamp() * 1000)
    return FIRST_UUID7_MS, int(time.time() * 1000) + 1
