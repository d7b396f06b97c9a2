"""Whoever connects to Cassandra does so for as long as it takes, whatever comes in between."""

import asyncio
from datetime import timedelta
from types import SimpleNamespace
from typing import Any, cast

import pytest
from cassandra import InvalidRequest
from cassandra.cluster import Session

from gateway import __main__ as gateway_process
from shared.cassandra import index as cassandra
from shared.cassandra.index import CassandraIndex
from shared.cassandra.session import connect
from shared.errors import ConfigurationError, Unavailable
from shared.settings import Settings

SETTINGS = Settings(_env_file=None, cassandra_timeout=timedelta(milliseconds=1))
SOON = 0.001
SURPRISE = RuntimeError("nobody foresaw it")


def session(keyspace: str) -> Session:
    return cast(Session, SimpleNamespace(keyspace=keyspace, cluster=SimpleNamespace(shutdown=lambda: None)))


class Failing:
    """Fails once, then returns this."""

    def __init__(self, result: Any) -> None:
        self._failures: list[Exception] = [SURPRISE]
        self._result = result

    def __call__(self, *_: Any) -> Any:
        if self._failures:
            raise self._failures.pop()
        return self._result


def test_a_host_without_an_address_is_an_outage() -> None:
    nowhere = SETTINGS.model_copy(update={"cassandra_contact_points": ("no-such-host.invalid",)})
    with pytest.raises(Unavailable, match=r"no address for no-such-host\.invalid: check CASSANDRA_CONTACT_POINTS"):
        connect(nowhere)


def test_a_live_keyspace_that_is_gone_is_a_mistake(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(_keyspace: str) -> None:
        raise InvalidRequest("Keyspace 'gone' does not exist")

    own = session("own")
    own.set_keyspace = refuse
    monkeypatch.setattr(cassandra, "connect", lambda *_: own)
    monkeypatch.setattr(cassandra, "check_deployment", lambda *_: None)
    monkeypatch.setattr(cassandra, "live_keyspace", lambda *_: "gone")
    with pytest.raises(ConfigurationError, match="keyspace gone does not exist"):
        cassandra._connection(SETTINGS, None)


async def test_a_gateway_goes_on_connecting_after_a_surprise(monkeypatch: pytest.MonkeyPatch) -> None:
    connected = Failing(cassandra._Connection(session("rows"), "rows"))
    monkeypatch.setattr(cassandra, "_connection", connected)
    monkeypatch.setattr(gateway_process, "RECONNECT_SECONDS", SOON)
    gateway = gateway_process.Gateway(SETTINGS)
    await gateway._connect_index()
    assert gateway._index.keyspace == "rows"
    await gateway._close()


async def test_a_switch_is_followed_after_a_surprise(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cassandra, "FOLLOW_SECONDS", SOON)
    monkeypatch.setattr(cassandra, "live_keyspace", lambda *_: "new")
    monkeypatch.setattr(cassandra, "_connection", lambda *_: cassandra._Connection(session("old"), "old"))
    index = CassandraIndex()
    await index.connect(SETTINGS)
    monkeypatch.setattr(cassandra, "_connection", Failing(cassandra._Connection(session("new"), "new")))
    async with asyncio.timeout(10):
        while index.keyspace != "new":  # noqa: ASYNC110 - no event tells of a switch
            await asyncio.sleep(SOON)
    await index.close()
