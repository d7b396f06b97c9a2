"""`LeaseTable` is one contract: these tests run against Cassandra and against the table in memory."""

import secrets
from collections.abc import AsyncIterator, Iterator
from datetime import timedelta
from uuid import uuid4

import pytest

from gateway.services.set_leases import CassandraLeaseTable, LeaseRow, LeaseTable
from shared.cassandra.index import CassandraIndex
from shared.settings import Settings
from tests.support.isolation import PATIENT, isolated
from tests.support.memory.gateway import MemoryLeaseTable
from tests.support.waiting import wait_for_async

LONG = timedelta(minutes=10)


@pytest.fixture(scope="module")
def keyspaces(engines: Settings) -> Iterator[tuple[Settings, Settings]]:
    """The settings' keyspace, and another one that could be the live one."""
    with isolated(engines, keyspace=True, cassandra_timeout=PATIENT) as own, isolated(own, keyspace=True) as live:
        yield own, live


@pytest.fixture(params=["memory", "cassandra"])
async def table(request: pytest.FixtureRequest) -> AsyncIterator[LeaseTable]:
    if request.param == "memory":
        yield MemoryLeaseTable()
        return
    own, live = request.getfixturevalue("keyspaces")
    index = await CassandraIndex.open(live)
    yield CassandraLeaseTable(index, own.cassandra_keyspace)
    await index.close()


@pytest.fixture
def scope() -> str:
    return secrets.token_hex(16)


async def test_one_holder_at_a_time(table: LeaseTable, scope: str) -> None:
    mine, other = uuid4(), uuid4()
    # The driver may send a statement twice.
    assert [await table.take(scope, mine, LONG) for _ in range(2)] == [LeaseRow(mine, unfenced=False)] * 2
    assert await table.take(scope, other, LONG) == LeaseRow(mine, unfenced=False)
    assert await table.renew(scope, mine, LONG)
    assert not await table.renew(scope, other, LONG)
    await table.end(scope, other, unfenced=False)
    assert await table.renew(scope, mine, LONG)
    for _ in range(2):
        await table.end(scope, mine, unfenced=False)
    assert not await table.renew(scope, mine, LONG)
    assert await table.take(scope, other, LONG) == LeaseRow(other, unfenced=False)


async def test_a_lease_ends_by_itself_and_its_mark_stays(table: LeaseTable, scope: str) -> None:
    mine, other = uuid4(), uuid4()
    await table.take(scope, mine, LONG)
    assert [await table.renew(scope, mine, timedelta(seconds=1), unfenced=True) for _ in range(2)] == [True, True]

    async def taken() -> bool:
        return (await table.take(scope, other, LONG)).holder == other

    await wait_for_async(taken, 30, "the end of the lease")
    assert not await table.renew(scope, mine, LONG, unfenced=True)
    assert await table.take(scope, other, LONG) == LeaseRow(other, unfenced=True)
    await table.end(scope, other, unfenced=True)
    assert await table.take(scope, mine, LONG) == LeaseRow(mine, unfenced=True)
    await table.end(scope, mine, unfenced=False)
    assert await table.take(scope, other, LONG) == LeaseRow(other, unfenced=False)


async def test_a_renewal_keeps_a_lease(table: LeaseTable, scope: str) -> None:
    mine, other = uuid4(), uuid4()
    await table.take(scope, mine, timedelta(seconds=2))
    assert await table.renew(scope, mine, LONG)
    late: list[LeaseRow] = []

    async def three_seconds() -> bool:
        late.append(await table.take(scope, other, LONG))
        return len(late) == 12

    await wait_for_async(three_seconds, 60, "three seconds", pause=0.25)
    assert {row.holder for row in late} == {mine}
