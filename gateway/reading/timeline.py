"""Reads lists of images, newest first.

The images of one owner are in one partition of the index. The list of all images is merged from the shards of each day.
A page is found by its ids alone, because ids are cheap to read. The whole rows are then read for the ids of the page.
"""

import asyncio
import contextlib
import itertools
import math
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from datetime import date
from typing import Protocol
from uuid import UUID

from shared.cassandra.slices import PAGE
from shared.contract.keys import DayShard, Owner, Partition, day_of
from shared.errors import TooManyDeletions
from shared.ports import Index
from shared.read_model.documents import ImageRow

DAYS_AT_ONCE = 32
"""Days that one query reads at most if there are few images per day. With 4 shards that is 128 partitions."""

ReadIds = Callable[[Partition, UUID | None, int], Awaitable[Sequence[UUID]]]
"""Reads up to so many ids of a partition below a bound, newest first."""


class Timeline(Protocol):
    """A list of images, newest first. All bounds are exclusive. Every method raises Unavailable."""

    async def ids(self, *, below: UUID | None, above: UUID | None = None, limit: int) -> list[UUID]:
        """Up to `limit` ids between the bounds."""

    async def count(self, *, below: UUID | None, above: UUID | None = None) -> int:
        """Number of images between the bounds."""

    async def rows(self, ids: Sequence[UUID]) -> list[ImageRow]:
        """The rows of these ids, in the same order, without those that were deleted in the meantime."""


@dataclass(frozen=True)
class OwnerTimeline:
    """The images of one owner."""

    index: Index
    owner: Owner

    async def ids(self, *, below: UUID | None, above: UUID | None = None, limit: int) -> list[UUID]:
        """See Timeline.ids."""
        return list(await self.index.ids(self.owner, below=below, above=above, limit=limit))

    async def count(self, *, below: UUID | None, above: UUID | None = None) -> int:
        """See Timeline.count."""
        return await self.index.count(self.owner, below=below, above=above)

    async def rows(self, ids: Sequence[UUID]) -> list[ImageRow]:
        """See Timeline.rows."""
        return _in_order(ids, await self.index.rows(self.owner, ids))


@dataclass(frozen=True)
class GlobalTimeline:
    """All images. `days` returns the days that may have images, newest first; `slots` bounds concurrent queries."""

    index: Index
    shards: int
    days: Callable[[], Awaitable[Sequence[date]]]
    slots: AbstractAsyncContextManager[object]

    async def ids(self, *, below: UUID | None, above: UUID | None = None, limit: int) -> list[UUID]:
        """See Timeline.ids."""
        found: list[UUID] = []
        days = await self._days(below, above)
        start, width = 0, 1
        while start < len(days) and len(found) < limit:
            group = days[start : start + width]
            found += await self._group_ids(group, below, above, limit - len(found))
            start += width
            # The days so far did not fill the page: there are few images per day, so read more days at once.
            width = min(2 * width, DAYS_AT_ONCE)
        return found[:limit]

    async def count(self, *, below: UUID | None, above: UUID | None = None) -> int:
        """See Timeline.count."""
        days = await self._days(below, above)
        parts = [DayShard(day, shard) for day in days for shard in range(self.shards)]
        return sum(await asyncio.gather(*(self._count(part, below, above) for part in parts)))

    async def rows(self, ids: Sequence[UUID]) -> list[ImageRow]:
        """See Timeline.rows."""
        by_day = _by_day(ids)
        days = list(by_day)
        groups = [days[start : start + DAYS_AT_ONCE] for start in range(0, len(days), DAYS_AT_ONCE)]
        found = await asyncio.gather(*(self._rows(group, by_day) for group in groups))
        return _in_order(ids, itertools.chain.from_iterable(found))

    async def _days(self, below: UUID | None, above: UUID | None) -> list[date]:
        last = day_of(below) if below else date.max
        first = day_of(above) if above else date.min
        return [day for day in await self.days() if first <= day <= last]

    async def _group_ids(self, days: Sequence[date], below: UUID | None, above: UUID | None, limit: int) -> list[UUID]:
        """Up to `limit` ids of these days. One query reads all days with few ids; other days are merged from shards."""
        if len(days) == 1:
            return await self._day_ids(days[0], below, above, limit)
        most = max(1, PAGE // (len(days) * self.shards))
        by_day: dict[date, list[UUID]] = {}
        dense = set(days)
        # If the query passes too many deleted rows, the shards are read one by one, in slices.
        with contextlib.suppress(TooManyDeletions):
            async with self.slots:
                found_ids = await self.index.ids_of_days(days, self.shards, below=below, above=above, limit=most)
            by_day = _by_day(found_ids.ids)
            dense = {partition.day for partition in found_ids.partial}
        found: list[UUID] = []
        for day in days:
            if len(found) >= limit:
                break
            if day in dense:
                found += await self._day_ids(day, below, above, limit - len(found))
            else:
                found += sorted(by_day.get(day, []), reverse=True)
        return found

    async def _day_ids(self, day: date, below: UUID | None, above: UUID | None, limit: int) -> list[UUID]:
        async def read(partition: Partition, upper: UUID | None, most: int) -> Sequence[UUID]:
            async with self.slots:
                return await self.index.ids(partition, below=upper, above=above, limit=most)

        return await merge([DayShard(day, shard) for shard in range(self.shards)], read, below, limit)

    async def _count(self, partition: DayShard, below: UUID | None, above: UUID | None) -> int:
        async with self.slots:
            return await self.index.count(partition, below=below, above=above)

    async def _rows(self, days: Sequence[date], by_day: Mapping[date, Sequence[UUID]]) -> Sequence[ImageRow]:
        ids = [image_id for day in days for image_id in by_day[day]]
        async with self.slots:
            return await self.index.rows_of_days(days, self.shards, ids)


@dataclass
class _Shard:
    """The ids that were read of a partition. It may have more ids below `horizon`; None if it has none."""

    partition: Partition
    below: UUID | None
    ids: list[UUID] = field(default_factory=list)
    exhausted: bool = False

    @property
    def horizon(self) -> UUID | None:
        return None if self.exhausted else self.below

    async def more(self, read: ReadIds, most: int) -> None:
        part = await read(self.partition, self.below, most)
        self.ids += part
        self.exhausted = len(part) < most
        self.below = part[-1] if part else self.below


async def merge(partitions: Sequence[Partition], read: ReadIds, below: UUID | None, limit: int) -> list[UUID]:
    """The newest `limit` ids below the bound of all partitions together.

    Ids are spread over the partitions at random. So the first read of each partition asks for its share and a margin.
    A partition is read again as long as it can have an id that belongs to the result.
    """
    shards = [_Shard(partition, below) for partition in partitions]
    missing = limit
    while True:
        most = _share(missing, len(shards))
        await asyncio.gather(*(shard.more(read, most) for shard in shards if not shard.exhausted))
        horizon = max((shard.horizon for shard in shards if shard.horizon is not None), default=None)
        ids = sorted(itertools.chain.from_iterable(shard.ids for shard in shards), reverse=True)
        final = ids if horizon is None else [image_id for image_id in ids if image_id >= horizon]
        if horizon is None or len(final) >= limit:
            return final[:limit]
        missing = limit - len(final)


def _share(limit: int, shards: int) -> int:
    """Ids to read of each shard: the mean plus three standard deviations, so that a second read is rare."""
    mean = limit / shards
    return min(limit, math.ceil(mean + 3 * math.sqrt(mean)) + 1)


def _by_day(ids: Iterable[UUID]) -> dict[date, list[UUID]]:
    by_day: dict[date, list[UUID]] = {}
    for image_id in ids:
        by_day.setdefault(day_of(image_id), []).append(image_id)
    return by_day


def _in_order(ids: Sequence[UUID], rows: Iterable[ImageRow]) -> list[ImageRow]:
    by_id = {row.image_id: row for row in rows}
    return [by_id[image_id] for image_id in ids if image_id in by_id]
