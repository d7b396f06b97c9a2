"""Reads lists of images, newest first.

The images of one owner are in one partition of the index. The list of all images is merged from the shards of each day.
A page is found by its ids alone, because ids are cheap to read. The whole rows are then read for the ids of the page.
Only a page of one owner that skips no image is read at once.
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

from shared.cassandra.slices import MAX_ID, PAGE
from shared.contract.keys import DayShard, Owner, Partition, day_of
from shared.errors import TooManyDeletions
from shared.ports import Index
from shared.read_model.documents import ImageRow

DAYS_AT_ONCE = 32
"""Days that one query reads at most if there are few images per day. With 4 shards that is 128 partitions."""

ReadIds = Callable[[Partition, UUID, int], Awaitable[Sequence[UUID]]]
"""Reads up to so many ids of a partition below a bound, newest first."""


@dataclass(frozen=True)
class Stretch:
    """Images of a list, newest first. `last` is the id below which the list goes on; None if it does not."""

    rows: list[ImageRow]
    last: UUID | None


class Timeline(Protocol):
    """A list of images, newest first. All bounds are exclusive. Every method raises Unavailable."""

    async def ids(self, *, below: UUID | None, above: UUID | None = None, limit: int) -> list[UUID]:
        """Up to `limit` ids between the bounds."""

    async def count(self, *, below: UUID | None, above: UUID | None = None) -> int:
        """Number of images between the bounds."""

    async def page(self, *, below: UUID | None, skip: int, limit: int) -> Stretch:
        """The `limit` images after the `skip` newest ones below the bound, without those that are just deleted."""


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

    async def page(self, *, below: UUID | None, skip: int, limit: int) -> Stretch:
        """See Timeline.page."""
        if skip:
            return await _page_by_ids(self, self._rows, below, skip, limit)
        # One query. One row more than the page has: if it exists, there is a next page.
        rows = list(await self.index.of_owner(self.owner, below=below, limit=limit + 1))
        return Stretch(rows[:limit], rows[limit - 1].image_id if len(rows) > limit else None)

    async def _rows(self, ids: Sequence[UUID]) -> Iterable[ImageRow]:
        return await self.index.rows(self.owner, ids)


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

    async def page(self, *, below: UUID | None, skip: int, limit: int) -> Stretch:
        """See Timeline.page."""
        return await _page_by_ids(self, self._rows, below, skip, limit)

    async def _rows(self, ids: Sequence[UUID]) -> Iterable[ImageRow]:
        by_day = _by_day(ids)
        days = list(by_day)
        groups = [days[start : start + DAYS_AT_ONCE] for start in range(0, len(days), DAYS_AT_ONCE)]
        found = await asyncio.gather(*(self._rows_of_days(group, by_day) for group in groups))
        return itertools.chain.from_iterable(found)

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
            by_day = _by_day(itertools.chain.from_iterable(found_ids.ids.values()))
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
        async def read(partition: Partition, upper: UUID, most: int) -> Sequence[UUID]:
            async with self.slots:
                return await self.index.ids(partition, below=upper, above=above, limit=most)

        return await merge(await self._shards(day, below, above, limit), read, limit)

    async def _shards(self, day: date, below: UUID | None, above: UUID | None, limit: int) -> "list[Shard]":
        """The shards of a day with their shares of so many ids, read by one query.

        No shard has been read if that query passes too many deleted rows: then each shard is read in slices.
        """
        shards = [Shard(DayShard(day, number), below or MAX_ID) for number in range(self.shards)]
        most = min(share(limit, self.shards), PAGE // self.shards)
        with contextlib.suppress(TooManyDeletions):
            async with self.slots:
                found = await self.index.ids_of_days([day], self.shards, below=below, above=above, limit=most)
            for shard in shards:
                shard.add(found.ids.get(shard.partition, ()), exhausted=shard.partition not in found.partial)
        return shards

    async def _count(self, partition: DayShard, below: UUID | None, above: UUID | None) -> int:
        async with self.slots:
            return await self.index.count(partition, below=below, above=above)

    async def _rows_of_days(self, days: Sequence[date], by_day: Mapping[date, Sequence[UUID]]) -> Sequence[ImageRow]:
        ids = [image_id for day in days for image_id in by_day[day]]
        async with self.slots:
            return await self.index.rows_of_days(days, self.shards, ids)


@dataclass
class Shard:
    """The ids that were read of a partition. Unless it is exhausted it may have more, all below `below`."""

    partition: DayShard
    below: UUID
    ids: list[UUID] = field(default_factory=list)
    exhausted: bool = False

    def add(self, ids: Sequence[UUID], *, exhausted: bool) -> None:
        """Note what was read below `below`."""
        self.ids += ids
        self.exhausted = exhausted
        self.below = ids[-1] if ids else self.below


async def merge(shards: Sequence[Shard], read: ReadIds, limit: int) -> list[UUID]:
    """The newest `limit` ids of all shards together.

    Ids are spread over the shards at random. So the first read of each shard asks for its share and a margin. A shard
    is read again as long as it can have an id that belongs to the result.
    """

    async def more(shard: Shard, most: int) -> None:
        ids = await read(shard.partition, shard.below, most)
        shard.add(ids, exhausted=len(ids) < most)

    while True:
        horizon = max((shard.below for shard in shards if not shard.exhausted), default=None)
        ids = sorted(itertools.chain.from_iterable(shard.ids for shard in shards), reverse=True)
        final = ids if horizon is None else [image_id for image_id in ids if image_id >= horizon]
        if horizon is None or len(final) >= limit:
            return final[:limit]
        most = share(limit - len(final), len(shards))
        await asyncio.gather(*(more(shard, most) for shard in shards if not shard.exhausted))


async def _page_by_ids(
    timeline: Timeline,
    read_rows: Callable[[Sequence[UUID]], Awaitable[Iterable[ImageRow]]],
    below: UUID | None,
    skip: int,
    limit: int,
) -> Stretch:
    """Finds the page by its ids, then reads its rows."""
    # One id more than the page has: if it exists, there is a next page.
    ids = (await timeline.ids(below=below, limit=skip + limit + 1))[skip:]
    page = ids[:limit]
    rows = {row.image_id: row for row in await read_rows(page)} if page else {}
    return Stretch([rows[image_id] for image_id in page if image_id in rows], page[-1] if len(ids) > limit else None)


def share(limit: int, shards: int) -> int:
    """Ids to read of each shard: the mean plus three standard deviations, so that a second read is rare."""
    mean = limit / shards
    return min(limit, math.ceil(mean + 3 * math.sqrt(mean)) + 1)


def _by_day(ids: Iterable[UUID]) -> dict[date, list[UUID]]:
    by_day: dict[date, list[UUID]] = {}
    for image_id in ids:
        by_day.setdefault(day_of(image_id), []).append(image_id)
    return by_day
