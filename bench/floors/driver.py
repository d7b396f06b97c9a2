"""The floor of the index: cassandra-driver alone, with the statements that the gateway or the indexer sends."""

import asyncio
import threading
import time
from collections.abc import Sequence
from typing import Any

from cassandra.cluster import Session
from cassandra.concurrent import execute_concurrent_with_args
from cassandra.query import BoundStatement

from shared.cassandra.index import CassandraIndex

Statements = Sequence[tuple[str, Sequence[Any]]]
"""CQL texts with the values to bind."""


class RecordingIndex(CassandraIndex):
    """An index that notes the statements of its reads, so that the driver can be given the same ones."""

    def __init__(self) -> None:
        super().__init__()
        self._statements: list[tuple[str, Sequence[Any]]] = []

    def take(self) -> Statements:
        """The statements since the last call."""
        taken, self._statements = self._statements, []
        return taken

    async def execute(self, cql: str, values: Sequence[Any]) -> list[Any]:
        """See CassandraIndex.execute."""
        self._statements.append((cql, values))
        return await super().execute(cql, values)


class BareDriver:
    """A session and its prepared statements."""

    def __init__(self, session: Session) -> None:
        self._session = session

    async def reads(self, statements: Statements, clients: int, seconds: float) -> float:
        """How often per second all statements are executed, one after the other, by this many clients at once."""
        bound = await asyncio.to_thread(self._bind, statements)
        return await asyncio.to_thread(self._read, bound, clients, seconds)

    def _bind(self, statements: Statements) -> list[BoundStatement]:
        return [self._session.prepare(cql).bind(values) for cql, values in statements]

    def _read(self, statements: Sequence[BoundStatement], clients: int, seconds: float) -> float:
        started = time.perf_counter()
        running = [_Client(self._session, statements, started + seconds) for _ in range(clients)]
        for client in running:
            client.next()
        for client in running:
            client.ended.wait()
        for client in running:
            if client.error is not None:
                raise client.error
        return sum(client.passes for client in running) / (time.perf_counter() - started)

    async def writes(self, cql: str, rows: Sequence[Sequence[Any]], at_once: int) -> float:
        """Rows per second that the statement writes, with so many at once."""
        return await asyncio.to_thread(self._write, cql, rows, at_once)

    def _write(self, cql: str, rows: Sequence[Sequence[Any]], at_once: int) -> float:
        statement = self._session.prepare(cql)
        started = time.perf_counter()
        execute_concurrent_with_args(self._session, statement, rows, concurrency=at_once)
        return len(rows) / (time.perf_counter() - started)


class _Client:
    """Executes the statements again and again until the deadline. The driver's callbacks start the next one."""

    def __init__(self, session: Session, statements: Sequence[BoundStatement], deadline: float) -> None:
        self._session = session
        self._statements = statements
        self._deadline = deadline
        self._number = 0
        self.passes = 0
        self.error: Exception | None = None
        self.ended = threading.Event()

    def next(self, _rows: object = None) -> None:
        """Start the next statement, or end."""
        if self._number == len(self._statements):
            self._number, self.passes = 0, self.passes + 1
            if time.perf_counter() >= self._deadline:
                self.ended.set()
                return
        statement = self._statements[self._number]
        self._number += 1
        self._session.execute_async(statement).add_callbacks(self.next, self._fail)

    def _fail(self, error: Exception) -> None:
        self.error = error
        self.ended.set()
