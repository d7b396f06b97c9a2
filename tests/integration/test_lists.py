"""Lists on the real Cassandra: exact pages over many days and shards, past deletions, and at large offsets."""

import functools
import random
from collections.abc import AsyncIterator, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import httpx
import pytest

from gateway.reading.anchors import Anchors
from gateway.reading.lists import ListQuery, Lists
from gateway.services.changes import Changes
from shared.cassandra.index import CassandraIndex
from shared.concurrency import for_each
from shared.contract.keys import Owner, day_of, new_id
from shared.contract.logged_command import versioned
from shared.read_model.tables import Write, command_writes
from shared.settings import Settings
from tests.support.api import PNG, Api
from tests.support.engines.stack import Stack
from tests.support.isolation import PATIENT, isolated
from tests.support.records import deleted, id_at, uploaded

SHARDS = 4
STEP = 100
DEEP = 7 * STEP + 10
NOON = datetime(2026, 11, 20, 12, 0, tzinfo=UTC)


@pytest.fixture(scope="module")
def keyspace(engines: Settings) -> Iterator[Settings]:
    # On a busy machine a query past 100,000 deletions takes seconds.
    with isolated(engines, keyspace=True, cassandra_timeout=PATIENT) as settings:
        yield settings


@pytest.fixture
async def index(keyspace: Settings) -> AsyncIterator[CassandraIndex]:
    found = await CassandraIndex.open(keyspace)
    # Every test has the global list to itself.
    for table in ("images", "images_by_owner", "images_by_day", "image_days"):
        await found.execute(f"TRUNCATE {table}", [])
    yield found
    await found.close()


def lists(index: CassandraIndex, changes: Changes | None = None) -> Lists:
    return Lists(index, changes or Changes(), shards=SHARDS, ttl=timedelta(0), base_url="https://img.example.org")


async def upload(index: CassandraIndex, ids: list[UUID], owner: Owner) -> None:
    writes: list[Write] = []
    for image_id in ids:
        writes += command_writes(versioned(uploaded(image_id, owner=owner), 10), SHARDS)
    for start in range(0, len(writes), 500):
        await index.apply(writes[start : start + 500])


async def ids_of(source: Lists, query: ListQuery) -> list[str]:
    page = await source.page(query)
    return [item["image_id"] for item in httpx.Response(200, content=page.body).json()]


async def walk(source: Lists, owner: Owner | None, limit: int) -> list[str]:
    found: list[str] = []
    query = ListQuery(owner, limit)
    while True:
        page = await source.page(query)
        found += [item["image_id"] for item in httpx.Response(200, content=page.body).json()]
        if page.next_url is None:
            return found
        query = ListQuery.parse(httpx.URL(page.next_url).params.multi_items())


async def test_cursors_walk_through_sparse_and_dense_days_in_order(index: CassandraIndex) -> None:
    one, other = Owner(type="user", id="1"), Owner(type="user", id="ü/:*")
    sparse = [id_at(NOON - timedelta(days=day), random.getrandbits(60)) for day in range(0, 200, 3)]
    dense = [id_at(NOON - timedelta(days=90, seconds=n), random.getrandbits(60)) for n in range(150)]
    await upload(index, sparse, one)
    await upload(index, dense, other)
    source = lists(index)
    expected = [str(image_id) for image_id in sorted(sparse + dense, reverse=True)]
    for limit in (7, 50, 500):
        assert await walk(source, None, limit) == expected
    assert await walk(source, other, 40) == [str(image_id) for image_id in sorted(dense, reverse=True)]
    for offset in (0, 20, 60, 180, 216, 217):
        assert await ids_of(source, ListQuery(None, 30, offset)) == expected[offset : offset + 30]


async def test_deleted_images_leave_no_holes_and_empty_days_no_trace(index: CassandraIndex) -> None:
    owner = Owner(type="user", id="1")
    ids = [id_at(NOON - timedelta(hours=hour), hour) for hour in range(240)]
    await upload(index, ids, owner)
    gone = [image_id for image_id in ids if day_of(image_id) == (NOON - timedelta(days=2)).date()] + ids[::5]
    for image_id in gone:
        await index.apply(command_writes(versioned(deleted(image_id, owner), 20), SHARDS))
    left = [str(image_id) for image_id in ids if image_id not in gone]
    assert await walk(lists(index), None, 50) == left
    assert await walk(lists(index), owner, 50) == left


@pytest.mark.slow
async def test_a_hundred_thousand_deletions_do_not_end_a_list(index: CassandraIndex, keyspace: Settings) -> None:
    owner = Owner(type="user", id="cleared")
    live = [id_at(NOON - timedelta(hours=2, seconds=n)) for n in range(60)]
    await upload(index, live, owner)
    # As a burst within a minute: Cassandra refuses to read past 105,000 deleted rows of one partition.
    keys = [id_at(NOON - timedelta(milliseconds=n // 2), n) for n in range(105_000)]
    statement = "DELETE FROM images_by_owner USING TIMESTAMP 30 WHERE owner_type = ? AND owner_id = ? AND image_id = ?;"

    async def delete(start: int) -> None:
        batch = keys[start : start + 250]
        values: list[Any] = [value for image_id in batch for value in (owner.type, owner.id, image_id)]
        await index.execute(f"BEGIN UNLOGGED BATCH {statement * len(batch)} APPLY BATCH", values)

    await for_each(range(0, len(keys), 250), delete, 8)

    expected = [str(image_id) for image_id in sorted(live, reverse=True)]
    assert await walk(lists(index), owner, 25) == expected
    assert await index.count(owner) == 60

    skipping = CassandraIndex(gap_memory=timedelta(minutes=1))
    await skipping.connect(keyspace, keyspace.cassandra_keyspace)
    try:
        for _ in ("learns the gap", "skips it"):
            assert await walk(lists(skipping), owner, 25) == expected
            assert await skipping.count(owner) == 60
    finally:
        await skipping.close()


async def test_a_deep_offset_is_exact_for_own_writes(index: CassandraIndex, monkeypatch: pytest.MonkeyPatch) -> None:
    # With smaller steps than in production, so that a thousand images are many.
    monkeypatch.setattr("gateway.reading.lists.STEP", STEP)
    monkeypatch.setattr("gateway.reading.lists.Anchors", functools.partial(Anchors, step=STEP))
    owner = Owner(type="user", id="deep")
    ids = sorted((id_at(NOON - timedelta(seconds=n), n) for n in range(10 * STEP)), reverse=True)
    await upload(index, ids, owner)
    changes = Changes()
    source = lists(index, changes)
    for who in (None, owner):
        assert await ids_of(source, ListQuery(who, 5, DEEP)) == [str(i) for i in ids[DEEP : DEEP + 5]]
    victim, newcomer = ids[17], new_id()
    await index.apply(command_writes(versioned(deleted(victim, owner), 20), SHARDS))
    changes.notify(victim, owner)
    await upload(index, [newcomer, second := new_id()], owner)
    changes.notify(newcomer, owner)
    changes.notify(second, owner)
    now = sorted({*ids, newcomer, second} - {victim}, reverse=True)
    for who in (None, owner):
        assert await ids_of(source, ListQuery(who, 5, DEEP)) == [str(i) for i in now[DEEP : DEEP + 5]]
        assert await ids_of(source, ListQuery(who, 5, len(now) - 2)) == [str(i) for i in now[-2:]]


def test_lists_are_paged_over_http(stack: Stack) -> None:
    with Api(stack.base_url) as api:
        owner = {"user_id": f"pages/{new_id()}"}
        ids = [api.upload(PNG, "a.png", **owner)["image_id"] for _ in range(7)][::-1]
        first = api.get("/images", params={**owner, "limit": 3})
        second = api.get(first.links["next"]["url"])
        third = api.get(second.links["next"]["url"])
        found = [item["image_id"] for answer in (first, second, third) for item in answer.json()]
        assert found == ids
        assert "next" not in third.links
        assert [i["image_id"] for i in api.get("/images", params={**owner, "limit": 2, "offset": 4}).json()] == ids[4:6]

        for image_id in ids:
            api.settled(image_id)
        settled = api.get("/images", params=owner, headers={"Cache-Control": "no-cache"})
        same = api.get("/images", params=owner, headers={"If-None-Match": settled.headers["ETag"]})
        assert (same.status_code, same.content) == (304, b"")


@pytest.mark.parametrize(
    "query",
    ["limit=0", "limit=501", "limit=-1", "limit=x", "limit=", "offset=-1", "offset=1e3", "offset=99999999999999",
     "cursor=x", "cursor=" + "A" * 32, "cursor=%00", "offset=0&cursor=x", "user_id=1&product_id=2", "owner_type=user",
     "user_id=", "user_id=%00", "limit=1&limit=2"],
)  # fmt: skip
def test_invalid_list_request_is_a_problem(stack: Stack, query: str) -> None:
    with Api(stack.base_url) as api:
        answer = api.get(f"/images?{query}")
        assert answer.headers["Content-Type"] == "application/problem+json"
        assert answer.status_code == 400
