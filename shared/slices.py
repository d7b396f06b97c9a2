"""Reads of a partition of the index in slices of time, so that neither many rows nor many deletions end them.

Cassandra fails a read that passes 100,000 deleted rows. UUIDv7 ids are times, so such a read is cut in two at the
middle of its time span, again where that is not enough, and the cuts are remembered for the next read. Remembering
cuts is never wrong: every slice within the bounds is read again, whatever was found there before.
"""

import bisect
import itertools
import time
from collections.abc import Awaitable, Callable, Sequence
from datetime import UTC, datetime, timedelta
from typing import TypeVar
from uuid import UUID

from cachetools import LRUCache

from shared.errors import TooManyDeletions
from shared.keys import DayShard, Partition

T = TypeVar("T")

MAX_ID = UUID(int=(1 << 128) - 1)
MIN_ID = UUID(int=0)
PAGE = 5000
"""Most rows of one query: the driver's page, so that every answer is whole."""
REMEMBERED_PARTITIONS = 1024
FIRST_UUID7_MS = int(datetime(2020, 1, 1, tzinfo=UTC).timestamp() * 1000)
"""Lower end of the time span of an owner's images: before it nobody made UUIDv7."""

Slice = tuple[UUID, UUID]
"""Bounds, the newer first; both exclusive."""


class Slices:
    """Reads slice by slice, newest first, and remembers where partitions had to be cut."""

    def __init__(self) -> None:
        self._cuts: LRUCache[Partition, list[UUID]] = LRUCache(REMEMBERED_PARTITIONS)

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
        while pending and len(found) < limit:
            upper, lower = pending.pop()
            most = min(limit - len(found), PAGE)
            try:
                part = await read(upper, lower, most)
            except TooManyDeletions as error:
                pending += self._halves(partition, upper, lower, error)
                continue
            found += part
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
                pending += self._halves(partition, upper, lower, error)
        return total

    def _slices(self, partition: Partition, below: UUID | None, above: UUID | None) -> list[Slice]:
        """Slices between the bounds, the oldest first."""
        upper, lower = below or MAX_ID, above or MIN_ID
        cuts = [cut for cut in self._cuts.get(partition, []) if lower < cut < upper]
        return [(newer, older) for older, newer in itertools.pairwise([lower, *cuts, upper])]

    def _halves(self, partition: Partition, upper: UUID, lower: UUID, error: TooManyDeletions) -> list[Slice]:
        """Both halves of a slice, the older first. Raises the error where all of it is one millisecond."""
        first, last = _span_ms(partition)
        newest = min(upper.int >> 80, last)
        oldest = max(lower.int >> 80, first)
        if newest - oldest < 2:
            # Ids of clocks that were wrong lie outside of the span: cut between the bounds themselves.
            newest, oldest = upper.int >> 80, lower.int >> 80
        if newest - oldest < 2:
            raise error
        middle = cut_at((newest + oldest) // 2)
        cuts = self._cuts.setdefault(partition, [])
        if middle not in cuts:
            bisect.insort(cuts, middle)
        return [(middle, lower), (upper, middle)]


def cut_at(milliseconds: int) -> UUID:
    """A bound between the ids made before this Unix time and those made from it on.

    Version 7, because Cassandra orders by version first; variant zero, so that no id equals it.
    """
    return UUID(int=(milliseconds << 80) | (7 << 76))


def _span_ms(partition: Partition) -> tuple[int, int]:
    """Unix times between which the ids of a partition were made."""
    if isinstance(partition, DayShard):
        start = datetime(partition.day.year, partition.day.month, partition.day.day, tzinfo=UTC)
        return int(start.timestamp() * 1000), int((start + timedelta(days=1)).timestamp() * 1000)
    return FIRST_UUID7_MS, int(time.time() * 1000) + 1
