"""The gateway process goes on connecting to Cassandra until it succeeds."""

from datetime import timedelta
from types import SimpleNamespace
from typing import Any, cast

import pytest
from cassandra.cluster import Session

from gateway import service as gateway_process
from shared.cassandra import index as cassandra
from shared.settings import Settings


async def test_gateway_connects_to_cassandra_again_after_an_unexpected_error(monkeypatch: pytest.MonkeyPatch) -> None:
    session = cast(Session, SimpleNamespace(keyspace="rows", cluster=SimpleNamespace(shutdown=lambda: None)))
    results = [RuntimeError("unexpected"), cassandra._Connection(session, "rows")]

    def connect(*_: Any) -> Any:
        result = results.pop(0)
        if isinstance(result, Exception):
            raise result
        return result

    monkeypatch.setattr(cassandra, "_connection", connect)
    monkeypatch.setattr(gateway_process, "RECONNECT_SECONDS", 0.001)
    gateway = gateway_process.Gateway(Settings(_env_file=None, cassandra_timeout=timedelta(milliseconds=1)))
    await gateway._connect_index()
    assert gateway._index.keyspace == "rows"
    await gateway._close()
