"""Lists: what a request may ask, cursors, and pages that are exact however images are spread or deleted."""

import asyncio
import json
from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from datetime import UTC, date, datetime, timedelta
from functools import cache
from random import Random
from typing import Any
from urllib.parse import parse_qsl, urlsplit
from uuid import UUID

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.http.problems import Problem
from gateway.reading.anchors import COUNT_AGE, MAX_OFFSET, Anchors
from gateway.reading.lists import ListQuery, Lists, decode_cursor, encode_cursor
from gateway.reading.timeline import GlobalTimeline, OwnerTimeline, Shard, merge
from gateway.services.changes import Changes
from shared.cassandra.slices import MAX_ID, PAGE
from shared.contract.keys import DayShard, Owner, Partition, day_of, new_id, shard_of, uploaded_at
from shared.errors import TooManyDeletions
from shared.ports import DayIds
from shared.read_model.documents import ImageRow
from tests.support.clock import Clock
from tests.support.ghosts import images_below_ghosts
from tests.support.memory.ports import MemoryIndex
from tests.support.records import id_at

USER = Owner(type="user", id="1")
SOME_ID = UUID("01a202b6-de8b-7263-bb6d-eec9c6bdacf8")
SHARDS = 4
NEVER = UUID(int=1)
NOON = datetime(2026, 11, 20, 12, 0, tzinfo=UTC)


@cache
def place(image_id: UUID) -> DayShard:
    return DayShard(day_of(image_id), shard_of(image_id, SHARDS))


def row_of(image_id: UUID) -> ImageRow:
    return ImageRow(image_id, USER, uploaded_at(image_id), 1, None, None, None)


class Ids:
    """An `Index` of ids alone, everyone's and the owner USER's; counts its queries."""

    def __init__(self, ids: Sequence[UUID]) -> None:
        self.ids_there = set(ids)
        self.buried: set[date] = set()
        self.going: set[UUID] = set()
        """Images that are deleted between the read of the ids and that of the rows."""
        self.queries = 0
        self.read = 0

    def of(self, partition: Partition, below: UUID | None, above: UUID | None) -> list[UUID]:
        self.queries += 1
        return sorted(
            (
                image_id
                for image_id in self.ids_there
                if (below is None or image_id < below)
                and (above is None or image_id > above)
                and partition in (USER, place(image_id))
            ),
            reverse=True,
        )

    async def ids(
        self, partition: Partition, *, below: UUID | None = None, above: UUID | None = None, limit: int = 50
    ) -> Sequence[UUID]:
        await asyncio.sleep(0)
        found = self.of(partition, below, above)[:limit]
        self.read += len(found)
        return found

    async def count(self, partition: Partition, *, below: UUID | None = None, above: UUID | None = None) -> int:
        await asyncio.sleep(0)
        return len(self.of(partition, below, above))

    async def rows(self, partition: Partition, ids: Sequence[UUID]) -> Sequence[ImageRow]:
        self.queries += 1
        there = set(self.of(partition, None, None)) - self.going
        return [row_of(found) for found in ids if found in there]

    async def of_owner(
        self, owner: Owner, *, below: UUID | None = None, above: UUID | None = None, limit: int = 50
    ) -> Sequence[ImageRow]:
        return [row_of(found) for found in self.of(owner, below, above)[:limit]]

    async def ids_of_days(
        self, days: Sequence[date], shards: int, *, below: UUID | None = None, above: UUID | None = None, limit: int
    ) -> DayIds:
        self.queries += 1
        if self.buried.intersection(days):
            raise TooManyDeletions("cassandra", "tombstones")
        newest_of = Counter[DayShard]()
        found: dict[DayShard, list[UUID]] = {}
        for image_id in self.newest():
            inside = (below is None or image_id < below) and (above is None or image_id > above)
            if inside and place(image_id).day in days and newest_of[place(image_id)] < limit:
                newest_of[place(image_id)] += 1
                found.setdefault(place(image_id), []).append(image_id)
        assert sum(map(len, found.values())) <= PAGE
        return DayIds(found, {part for part, length in newest_of.items() if length == limit})

    async def rows_of_days(self, days: Sequence[date], shards: int, ids: Sequence[UUID]) -> Sequence[ImageRow]:
        self.queries += 1
        there = self.ids_there - self.going
        return [row_of(found) for found in ids if found in there and day_of(found) in days]

    async def days(self) -> Sequence[date]:
        return sorted({day_of(image_id) for image_id in self.ids_there}, reverse=True)

    def newest(self) -> list[UUID]:
        return sorted(self.ids_there, reverse=True)


def everyone(index: Ids) -> GlobalTimeline:
    return GlobalTimeline(index, SHARDS, index.days, asyncio.Semaphore(64))  # type: ignore[arg-type]


def owners(index: Ids) -> OwnerTimeline:
    return OwnerTimeline(index, USER)  # type: ignore[arg-type]


def spread(count: int, days: int, seed: int = 1) -> list[UUID]:
    """Ids of `count` images over so many days, at random."""
    random = Random(seed)
    span = days * 86_400_000
    return [id_at(NOON - timedelta(milliseconds=random.randrange(span)), random.getrandbits(60)) for _ in range(count)]


# What a request may ask


def pairs(query: str) -> list[tuple[str, str]]:
    return parse_qsl(query, keep_blank_values=True)


def test_defaults() -> None:
    assert ListQuery.parse([]) == ListQuery(None, 50, 0, None)


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("limit=1", ListQuery(None, 1)),
        ("limit=500&offset=1000000", ListQuery(None, 500, 1_000_000)),
        ("user_id=1&offset=3", ListQuery(USER, 50, 3)),
        ("owner_type=user&owner_id=1", ListQuery(USER)),
        ("owner_type=image&owner_id=x", ListQuery(Owner(type="image", id="x"))),
        ("product_id=%2F..%2F%2A%3A%F0%9F%8F%9C", ListQuery(Owner(type="product", id="/../*:🏜"))),
        ("image_id=1&upload_id=2&request_id=3&color=red", ListQuery(None)),
    ],
)
def test_valid_list_queries(query: str, expected: ListQuery) -> None:
    assert ListQuery.parse(pairs(query)) == expected


@pytest.mark.parametrize(
    ("query", "code"),
    [
        *((f"limit={value}", "invalid_paging") for value in ("0", "-1", "501", "", "ten", "1.5", "+1", "1e2", "٣")),
        ("limit=" + "9" * 40, "invalid_paging"),
        *((f"offset={value}", "invalid_paging") for value in ("-1", "", "x", str(MAX_OFFSET + 1), "9" * 5000)),
        ("limit=1&limit=2", "invalid_paging"),
        ("cursor=a&cursor=b", "invalid_paging"),
        ("offset=0&cursor=" + encode_cursor(SOME_ID, None), "invalid_paging"),
        *((f"cursor={value}", "invalid_cursor") for value in ("", "x", "é", "A" * 32, "A" * 9999, "%00")),
        ("cursor=" + encode_cursor(SOME_ID, USER), "invalid_cursor"),
        ("user_id=1&cursor=" + encode_cursor(SOME_ID, None), "invalid_cursor"),
        ("user_id=01&cursor=" + encode_cursor(SOME_ID, USER), "invalid_cursor"),
        ("user_id=1&user_id=2", "invalid_owner"),
        ("user_id=1&product_id=2", "invalid_owner"),
        ("user_id=1&owner_type=user&owner_id=1", "invalid_owner"),
        ("owner_type=user", "invalid_owner"),
        ("owner_id=1", "invalid_owner"),
        ("user_id=", "invalid_owner"),
        ("User_id=1", "invalid_owner"),
        ("_id=1", "invalid_owner"),
        ("user_id=a%00b", "invalid_owner"),
        ("user_id=" + "x" * 129, "invalid_owner"),
    ],
)  # fmt: skip
def test_invalid_list_queries(query: str, code: str) -> None:
    with pytest.raises(Problem) as caught:
        ListQuery.parse(pairs(query))
    assert (caught.value.code, caught.value.status) == (code, 400)


@pytest.mark.parametrize("change", [("-", "+"), ("_", "/"), ("", "="), ("", "\n"), ("", " ")])
def test_a_cursor_has_one_spelling(change: tuple[str, str]) -> None:
    """Otherwise a page would have many URLs, each with its own copy in a CDN."""
    cursor = encode_cursor(UUID("01a202b6-fbef-7fbf-bfef-fbefffffffff"), None)
    assert {"-", "_"} <= set(cursor)
    old, new = change
    other = cursor.replace(old, new) if old else cursor + new
    with pytest.raises(Problem, match="not a cursor"):
        decode_cursor(other, None)


def test_a_cursor_leads_on_below_its_image() -> None:
    last = new_id()
    url = ListQuery(USER, 7).url_after(last, "https://img.example.org")
    assert url.startswith("https://img.example.org/images?")
    assert ListQuery.parse(pairs(urlsplit(url).query)) == ListQuery(USER, 7, 0, last)


@pytest.mark.parametrize("image_id", [UUID(int=0), UUID(int=(1 << 128) - 1), UUID(int=(1 << 128) - (9 << 76))])
def test_a_forged_id_in_a_cursor_is_refused(image_id: UUID) -> None:
    with pytest.raises(Problem):
        decode_cursor(encode_cursor(image_id, None), None)


@given(st.uuids(allow_nil=True) | st.uuids(version=4).map(lambda i: UUID(int=i.int & ~(0xF << 76) | (7 << 76))))
def test_the_id_in_a_cursor_has_a_valid_day(image_id: UUID) -> None:
    found = None
    with suppress(Problem):
        found = decode_cursor(encode_cursor(image_id, None), None)
    assert found is None or (found == image_id and day_of(found) < date.max)


# Timelines


@pytest.mark.parametrize(("count", "days"), [(0, 1), (1, 1), (300, 1), (300, 30), (60, 400)])
@pytest.mark.parametrize("limit", [1, 7, 50, 400])
async def test_pages_by_cursor_are_the_whole_list(count: int, days: int, limit: int) -> None:
    index = Ids(spread(count, days))
    for timeline in (everyone(index), owners(index)):
        found: list[UUID] = []
        below = None
        while page := await timeline.ids(below=below, limit=limit):
            found += page
            below = page[-1]
        assert found == index.newest()


@given(st.data())
@settings(max_examples=40, deadline=None)
async def test_any_window_is_exact(data: st.DataObject) -> None:
    index = Ids(
        spread(data.draw(st.integers(0, 120)), data.draw(st.sampled_from([1, 3, 40])), data.draw(st.integers(0, 9)))
    )
    everything = index.newest()
    bounds = st.none() | st.sampled_from(everything) if everything else st.none()
    below, above = data.draw(bounds), data.draw(bounds)
    limit = data.draw(st.integers(1, 130))
    inside = [i for i in everything if (below is None or i < below) and (above is None or i > above)]
    timeline = everyone(index)
    assert await timeline.ids(below=below, above=above, limit=limit) == inside[:limit]
    assert await timeline.count(below=below, above=above) == len(inside)


@pytest.mark.parametrize(("count", "days"), [(0, 1), (1, 1), (300, 1), (300, 30), (60, 400)])
@pytest.mark.parametrize(("skip", "limit"), [(0, 7), (0, 60), (3, 50), (299, 1), (0, 400)])
async def test_pages_continue_each_other(count: int, days: int, skip: int, limit: int) -> None:
    index = Ids(spread(count, days))
    for timeline in (everyone(index), owners(index)):
        page = await timeline.page(below=None, skip=skip, limit=limit)
        found = list(page.rows)
        while page.last is not None:
            page = await timeline.page(below=page.last, skip=0, limit=limit)
            assert page.rows
            found += page.rows
        assert [row.image_id for row in found] == index.newest()[skip:]


@pytest.mark.parametrize("days", [1, 5, 90])
async def test_a_page_leaves_out_images_that_are_deleted_meanwhile(days: int) -> None:
    index = Ids(spread(100, days))
    everything = index.newest()
    index.going = {everything[3]}
    page = await everyone(index).page(below=None, skip=0, limit=10)
    assert [row.image_id for row in page.rows] == [*everything[:3], *everything[4:10]]
    assert page.last == everything[9]


async def test_the_first_page_of_an_owner_is_one_query() -> None:
    index = Ids(spread(200, 9))
    assert len((await owners(index).page(below=None, skip=0, limit=50)).rows) == 50
    assert index.queries == 1


async def test_sparse_days_are_read_many_at_once() -> None:
    index = Ids([id_at(NOON - timedelta(days=day)) for day in range(300)])
    assert await everyone(index).ids(below=None, limit=200) == index.newest()[:200]
    assert index.queries < 20
    index.queries = 0
    page = await everyone(index).page(below=None, skip=0, limit=200)
    assert [row.image_id for row in page.rows] == index.newest()[:200]
    assert index.queries < 30


async def test_dense_days_among_sparse_ones_are_merged() -> None:
    busy = [id_at(NOON - timedelta(days=40, milliseconds=tail), tail) for tail in range(1000)]
    index = Ids([id_at(NOON - timedelta(days=day)) for day in range(100)] + busy)
    assert await everyone(index).ids(below=None, limit=1060) == index.newest()[:1060]


async def test_days_with_many_deletions_are_read_shard_by_shard() -> None:
    index = Ids([id_at(NOON - timedelta(days=day)) for day in range(100)])
    index.buried = {day_of(index.newest()[40])}
    assert await everyone(index).ids(below=None, limit=80) == index.newest()[:80]


async def test_a_page_reads_little_more_than_itself() -> None:
    index = Ids(spread(4000, 1))
    assert await everyone(index).ids(below=None, limit=100) == index.newest()[:100]
    assert index.read < 2.5 * 100


async def test_merging_goes_on_while_a_lopsided_shard_may_hold_more() -> None:
    newest = [id_at(NOON, tail) for tail in range(100)]
    older = [id_at(NOON - timedelta(hours=1), tail) for tail in range(100)]
    content = {DayShard(NOON.date(), 0): newest[::-1], DayShard(NOON.date(), 1): older[::-1]}

    async def read(partition: Partition, below: UUID, most: int) -> list[UUID]:
        return [i for i in content[partition] if i < below][:most]  # type: ignore[index]

    shards = [Shard(partition, MAX_ID) for partition in content]
    assert await merge(shards, read, 150) == [*newest[::-1], *older[::-1][:50]]


# Deep offsets


async def at(timeline: Any, anchors: Anchors, offset: int, **options: Any) -> UUID | None:
    below, rest = await anchors.seek(offset, **options)
    found = await timeline.ids(below=below, limit=rest + 1)
    return found[rest] if len(found) > rest else None


@pytest.mark.parametrize("days", [1, 30])
async def test_every_offset_is_found_from_the_anchors(days: int) -> None:
    index = Ids(spread(500, days))
    everything = index.newest()
    timeline = everyone(index)
    anchors = Anchors(timeline, timedelta(seconds=1), Clock(1000.0), step=20)
    for offset in [0, 19, 20, 21, 480, 100, 499, 39, 40, 250]:
        assert await at(timeline, anchors, offset) == everything[offset]
    for offset in (500, 900, MAX_OFFSET):
        assert await at(timeline, anchors, offset) is None


async def test_known_segments_are_not_read_again() -> None:
    index = Ids(spread(500, 1))
    timeline = owners(index)
    anchors = Anchors(timeline, timedelta(seconds=1), Clock(1000.0), step=20)
    await at(timeline, anchors, 400)
    index.read = 0
    await at(timeline, anchors, 395)
    assert index.read <= 20


@given(st.integers(0, 9999).map(Random), st.sampled_from([1, 10]), st.integers(1, 25))
@settings(max_examples=30, deadline=None)
async def test_own_writes_and_deletions_are_exact_at_once(random: Random, days: int, changes: int) -> None:
    index = Ids(spread(200, days))
    timeline = everyone(index)
    anchors = Anchors(timeline, timedelta(seconds=1), Clock(1000.0), step=10)
    for number in range(changes):
        if random.random() < 0.5:
            image_id = id_at(NOON + timedelta(seconds=number + 1))
            index.ids_there.add(image_id)
        else:
            image_id = random.choice(index.newest())
            index.ids_there.remove(image_id)
        anchors.mark_stale(image_id)
        offset = random.randrange(221)
        everything = index.newest()
        assert await at(timeline, anchors, offset) == (everything[offset] if offset < len(everything) else None)


async def test_deletions_by_others_show_within_the_age_of_a_count() -> None:
    index, clock = Ids(spread(200, 1)), Clock(1000.0)
    timeline = owners(index)
    anchors = Anchors(timeline, timedelta(seconds=1), clock, step=20)
    await at(timeline, anchors, 150)
    before = index.newest()
    index.ids_there -= set(before[30:36])
    clock.now += 2
    assert await at(timeline, anchors, 150) == before[150]
    assert await at(timeline, anchors, 150, fresh=True) == index.newest()[150]
    index.ids_there -= set(index.newest()[40:46])
    clock.now += COUNT_AGE.total_seconds() + 1
    assert await at(timeline, anchors, 150) == index.newest()[150]


async def test_a_write_during_the_count_keeps_it_stale() -> None:
    index = Ids(spread(100, 1))
    timeline = owners(index)
    anchors = Anchors(timeline, timedelta(seconds=1), Clock(1000.0), step=20)
    await at(timeline, anchors, 90)
    victim = index.newest()[25]
    anchors.mark_stale(victim)
    counting = asyncio.create_task(anchors.seek(90))
    await asyncio.sleep(0)
    index.ids_there.remove(victim)
    anchors.mark_stale(victim)
    await counting
    assert await at(timeline, anchors, 90) == index.newest()[90]


async def test_segments_follow_growth_and_join_when_emptied() -> None:
    index, clock = Ids(spread(100, 1)), Clock(1000.0)
    timeline = owners(index)
    anchors = Anchors(timeline, timedelta(seconds=1), clock, step=10)
    await at(timeline, anchors, 90)
    index.ids_there |= {id_at(NOON + timedelta(seconds=second)) for second in range(1, 60)}
    clock.now += 2
    assert await at(timeline, anchors, 120) == index.newest()[120]
    index.read = 0
    clock.now += 2
    await at(timeline, anchors, 45)
    assert index.read <= 10
    index.ids_there -= set(index.newest()[10:140])
    assert await at(timeline, anchors, 15, fresh=True) == index.newest()[15]
    index.queries = 0
    assert await at(timeline, anchors, 15, fresh=True) == index.newest()[15]
    assert index.queries <= 5


@pytest.mark.parametrize("owner", [None, USER])
@pytest.mark.parametrize("limit", [1, 2, 3, 50])
async def test_pages_over_ghosts_are_full_and_end_with_the_images(owner: Owner | None, limit: int) -> None:
    index = MemoryIndex()
    images, _ = await images_below_ghosts(index, USER, SHARDS, NOON)
    lists = Lists(index, Changes(), shards=SHARDS, ttl=timedelta(0), base_url="https://img.example.org")
    pages, query = [], ListQuery(owner, limit)
    while True:
        page = await lists.page(query)
        pages.append([document["image_id"] for document in json.loads(page.body)])
        if page.next_url is None:
            break
        query = ListQuery.parse(parse_qsl(urlsplit(page.next_url).query))
    wanted = [str(image_id) for image_id in images]
    assert pages == [wanted[start : start + limit] for start in range(0, len(wanted), limit)]
