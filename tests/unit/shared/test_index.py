"""The index on Cassandra: a statement is prepared once, and the connection follows the live keyspace."""

import asyncio
import threading
from collections.abc import Callable
from datetime import date, timedelta
from functools import partial
from types import SimpleNamespace
from typing import Any, cast
from uuid import UUID

import pytest
from cassandra import InvalidRequest, OperationTimedOut
from cassandra.cluster import Session
from cassandra.query import BatchStatement, BoundStatement

from shared.cassandra import index as cassandra
from shared.cassandra import known_days
from shared.cassandra.deployment import InUse
from shared.cassandra.index import CassandraIndex, Connect
from shared.cassandra.slices import Slices
from shared.contract.keys import new_id
from shared.contract.logged_command import versioned
from shared.errors import ConfigurationError, Unavailable
from shared.read_model.tables import command_writes, day_insert
from shared.settings import Settings
from tests.support import records
from tests.support.waiting import wait_for_async

TOGETHER = 30
"""More than the threads that prepare."""
CQL = "SELECT day FROM image_days WHERE bucket = ?"


class Preparing:
    """A session that prepares statements when `answer` is set, and whose queries return no rows."""

    keyspace = "imagepipe"

    def __init__(self, *failures: Exception) -> None:
        self.prepared: list[str] = []
        self.asked = threading.Event()
        self.answer = threading.Event()
        self._failures = list(failures)

    def get_execution_profile(self, _name: object) -> SimpleNamespace:
        return SimpleNamespace(request_timeout=1000.0)

    def prepare(self, cql: str) -> SimpleNamespace:
        self.prepared.append(cql)
        self.asked.set()
        assert self.answer.wait(60)
        if self._failures:
            raise self._failures.pop(0)
        return SimpleNamespace(bind=lambda _values: SimpleNamespace(is_idempotent=False))

    def execute_async(self, _bound: Any) -> SimpleNamespace:
        return SimpleNamespace(add_callbacks=lambda answered, _failed: answered([]))


def index_on(session: Preparing) -> CassandraIndex:
    return CassandraIndex(cast(Session, session))


async def asking(index: CassandraIndex, session: Preparing) -> list[asyncio.Task[list[Any]]]:
    """Many queries that wait for the same statement."""
    tasks = [asyncio.create_task(index.execute(CQL, [])) for _ in range(TOGETHER)]
    assert await asyncio.to_thread(session.asked.wait, 60)
    return tasks


async def test_concurrent_queries_share_one_preparation() -> None:
    session = Preparing()
    index = index_on(session)
    tasks = await asking(index, session)
    session.answer.set()
    assert await asyncio.gather(*tasks) == [[]] * TOGETHER
    await index.execute(CQL, [])
    assert session.prepared == [CQL]


async def test_cancelled_query_does_not_cancel_the_shared_preparation() -> None:
    session = Preparing()
    index = index_on(session)
    first, *others = await asking(index, session)
    first.cancel()
    await asyncio.wait({first})
    session.answer.set()
    assert await asyncio.gather(*others) == [[]] * len(others)
    assert first.cancelled()
    assert session.prepared == [CQL]


async def test_failed_preparation_fails_every_waiting_query_and_is_not_cached() -> None:
    session = Preparing(OperationTimedOut())
    index = index_on(session)
    tasks = await asking(index, session)
    session.answer.set()
    outcomes = await asyncio.gather(*tasks, return_exceptions=True)
    assert [type(each) for each in outcomes] == [Unavailable] * TOGETHER
    assert await index.execute(CQL, []) == []
    assert session.prepared == [CQL, CQL]


@pytest.mark.filterwarnings("error")
async def test_failed_preparation_without_waiting_queries_logs_nothing() -> None:
    session = Preparing(OperationTimedOut())
    index = index_on(session)
    tasks = await asking(index, session)
    for task in tasks:
        task.cancel()
    await asyncio.wait(tasks)
    session.answer.set()
    await asyncio.wait(asyncio.all_tasks() - {asyncio.current_task()})
    assert await index.execute(CQL, []) == []
    assert session.prepared == [CQL, CQL]


SETTINGS = Settings(_env_file=None, cassandra_timeout=timedelta(milliseconds=1))
SOON = 0.001
UNEXPECTED = RuntimeError("unexpected")


def session(keyspace: str) -> Session:
    return cast(Session, SimpleNamespace(keyspace=keyspace, cluster=SimpleNamespace(shutdown=lambda: None)))


def reading(in_use: Callable[[], InUse]) -> Any:
    """Stands for the query of the keyspaces in use."""

    async def read(*_: object) -> InUse:
        return in_use()

    return read


def connecting(*results: Session | Exception) -> Connect:
    """Returns or raises these, one at each call."""
    left = iter(results)

    def connect(_settings: Settings, _keyspace: str | None) -> Session:
        result = next(left)
        if isinstance(result, Exception):
            raise result
        return result

    return connect


def test_missing_live_keyspace_is_a_configuration_error(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(_keyspace: str) -> None:
        raise InvalidRequest("Keyspace 'gone' does not exist")

    own = session("own")
    own.set_keyspace = refuse
    monkeypatch.setattr(cassandra, "connect", lambda *_: own)
    monkeypatch.setattr(cassandra, "check_deployment", lambda *_: None)
    monkeypatch.setattr(cassandra, "live_keyspace", lambda *_: "gone")
    with pytest.raises(ConfigurationError, match="keyspace gone does not exist"):
        cassandra.connect_to_index(SETTINGS, None)


async def test_index_follows_a_switch_after_an_unexpected_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cassandra, "FOLLOW_SECONDS", SOON)
    monkeypatch.setattr(cassandra, "SWITCHING_SECONDS", SOON)
    monkeypatch.setattr(CassandraIndex, "_in_use", reading(lambda: InUse("new")))
    index = CassandraIndex(connect=connecting(session("old"), UNEXPECTED, session("new")))
    await index.connect(SETTINGS)
    await wait_for_async(lambda: index.keyspace == "new", 10, "the switch", pause=SOON)
    await index.close()


def bound(cql: str, values: list[Any]) -> BoundStatement:
    """A statement of the driver, whose values are not encoded."""
    prepared = SimpleNamespace(
        query_string=cql, query_id=cql, column_metadata=[], consistency_level=None, serial_consistency_level=None,
        fetch_size=None, custom_payload=None, retry_policy=None, is_idempotent=False, routing_key_indexes=None,
        keyspace=None,
    )  # fmt: skip
    statement = BoundStatement(prepared)
    statement.values = values
    return statement


class Recording:
    """A session that keeps the requests that it gets, each as the texts of its statements."""

    def __init__(self, keyspace: str) -> None:
        self.keyspace = keyspace
        self.requests: list[list[str]] = []
        self.cluster = SimpleNamespace(shutdown=lambda: None)

    def get_execution_profile(self, _name: object) -> SimpleNamespace:
        return SimpleNamespace(request_timeout=1000.0)

    def prepare(self, cql: str) -> SimpleNamespace:
        return SimpleNamespace(bind=partial(bound, cql))

    def execute_async(self, request: Any) -> SimpleNamespace:
        assert request.is_idempotent
        if isinstance(request, BatchStatement):
            self.requests.append([cql for _, cql, _ in request._statements_and_parameters])
        else:
            self.requests.append([request.prepared_statement.query_string])
        return SimpleNamespace(add_callbacks=lambda answered, _failed: answered([]))


async def test_writes_go_to_both_keyspaces_while_a_switch_is_in_progress(monkeypatch: pytest.MonkeyPatch) -> None:
    sessions = {name: Recording(name) for name in ("old", "new")}
    state = {"live": "old", "switching": ""}
    monkeypatch.setattr(cassandra, "FOLLOW_SECONDS", SOON)
    monkeypatch.setattr(cassandra, "SWITCHING_SECONDS", SOON)
    monkeypatch.setattr(CassandraIndex, "_in_use", reading(lambda: InUse(**state)))

    def connect(_settings: Settings, keyspace: str | None) -> Session:
        return cast(Session, sessions[keyspace or state["live"]])

    index = CassandraIndex(connect=connect)
    await index.connect(SETTINGS)

    async def written(by: CassandraIndex = index) -> set[str]:
        for session in sessions.values():
            session.requests.clear()
        await by.apply(command_writes(versioned(records.deleted(new_id()), 8), 4))
        return {name for name, session in sessions.items() if session.requests}

    async def both() -> bool:
        return await written() == {"old", "new"}

    async def one() -> bool:
        return await written() == {"new"}

    assert await written() == {"old"}
    state["switching"] = "old new"
    await wait_for_async(both, 10, "both are written to", pause=SOON)
    late = CassandraIndex(connect=connect)
    await late.connect(SETTINGS)
    assert await written(late) == {"old", "new"}
    state["live"] = "new"
    await wait_for_async(lambda: index.keyspace == "new", 10, "the switch", pause=SOON)
    assert await written() == {"old", "new"}
    state["switching"] = ""
    await wait_for_async(one, 10, "the end of the switch", pause=SOON)
    await late.close()
    await index.close()


async def test_a_deletion_removes_the_row_in_the_owners_list_last() -> None:
    """A gateway that finds no row of an owner relies on it: no other table shows an image of the owner."""
    session = Recording("imagepipe")
    index = CassandraIndex(cast(Session, session))
    deleted, other = (command_writes(versioned(records.deleted(new_id()), version), 4) for version in (8, 10))
    await index.apply([*reversed(deleted), *reversed(other)])
    first, last = ([statement.split()[2] for statement in request] for request in session.requests)
    assert sorted(first) == ["images", "images", "images_by_day", "images_by_day"]
    assert last == ["images_by_owner"] * 2
    await index.close()


async def test_an_upload_is_one_request_and_its_day_is_not_written_again(monkeypatch: pytest.MonkeyPatch) -> None:
    session = Recording("imagepipe")
    index = CassandraIndex(cast(Session, session))
    first, second = (command_writes(versioned(records.uploaded(), version), 4) for version in (10, 20))
    await index.apply(first)
    await index.apply(second)
    tables = [sorted(table_of(statement) for statement in request) for request in session.requests]
    rows = ["images", "images_by_day", "images_by_owner"]
    assert tables == [["image_days", *rows], rows]
    monkeypatch.setattr(known_days, "SECONDS", 0.0)
    await index.apply([day_insert(date(2026, 1, 1), 1)])
    await index.apply([day_insert(date(2026, 1, 1), 1)])
    assert [table_of(*request) for request in session.requests[2:]] == ["image_days"] * 2
    await index.close()


def table_of(statement: str) -> str:
    return statement.removeprefix("INSERT INTO ").removeprefix("UPDATE ").split()[0]


class Refusing(Recording):
    """A session whose requests all fail."""

    def execute_async(self, request: Any) -> SimpleNamespace:
        super().execute_async(request)
        return SimpleNamespace(add_callbacks=lambda _answered, failed: failed(OperationTimedOut()))


async def test_a_day_that_was_not_acknowledged_is_written_again() -> None:
    session = Refusing("imagepipe")
    index = CassandraIndex(cast(Session, session))
    for _ in range(2):
        with pytest.raises(Unavailable):
            await index.apply([day_insert(date(2026, 1, 1), 1)])
    assert len(session.requests) == 2
    await index.close()


async def test_each_row_of_an_image_that_is_written_ends_the_gap_around_it(monkeypatch: pytest.MonkeyPatch) -> None:
    ids: list[UUID] = []
    monkeypatch.setattr(Slices, "written", lambda _, image_id: ids.append(image_id))
    index = CassandraIndex(cast(Session, Recording("own")))
    upload = records.uploaded()
    await index.apply(command_writes(versioned(upload, 10), 4))
    assert ids == [upload.image_id]
    await index.apply(command_writes(versioned(records.deleted(upload.image_id), 20), 4))
    assert ids == [upload.image_id]
    await index.close()
