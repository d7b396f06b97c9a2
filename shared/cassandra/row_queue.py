"""Sends rows to Cassandra with few requests: rows that wait at the same time share one."""

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Sequence
from contextvars import Context
from dataclasses import dataclass

from cassandra import InvalidRequest
from cassandra.query import BoundStatement

from shared.cassandra.requests import Backlog, PartitionKey, size_of

Statements = Sequence[BoundStatement]
"""The statements of one row."""
Send = Callable[[Statements], Awaitable[object]]
"""Function that sends statements as one request, and returns when Cassandra has acknowledged it."""


@dataclass(eq=False, slots=True)
class _Row:
    statements: Statements
    written: asyncio.Future[None]


class RowQueue:
    """Rows on their way to one keyspace.

    At most `at_once` requests are in progress. Rows that arrive while all of them are busy wait. When one ends, the
    rows of the partition that has waited longest are sent together. So a queue that is idle delays no row, and one that
    is busy needs a fraction of the requests.
    """

    def __init__(self, send: Send, at_once: int) -> None:
        self._send = send
        self._free = at_once
        self._backlog: Backlog[_Row] = Backlog()
        self._running: set[asyncio.Task[None]] = set()

    async def write(self, rows: Iterable[tuple[PartitionKey, Statements]]) -> None:
        """Write rows, each with its partition; returns when Cassandra has acknowledged all of them.

        Raises the first error. Then, and if the caller is cancelled, its rows that still wait are dropped.
        """
        loop = asyncio.get_running_loop()
        added = []
        for partition, statements in rows:
            row = _Row(statements, loop.create_future())
            self._backlog.add(partition, row, size_of(statements))
            added.append(row.written)
        self._start()
        try:
            await asyncio.gather(*added)
        finally:
            for written in added:
                written.cancel()

    def _start(self) -> None:
        while self._free and (taken := self._backlog.take()):
            rows = [row for row in taken if not row.written.done()]
            if rows:
                self._free -= 1
                # The request belongs to several callers, so it has the context of none.
                task = asyncio.create_task(self._run(rows), context=Context())
                self._running.add(task)
                task.add_done_callback(self._running.discard)

    async def _run(self, rows: Sequence[_Row]) -> None:
        try:
            await self._ask(rows)
        finally:
            self._free += 1
            self._start()

    async def _ask(self, rows: Sequence[_Row]) -> None:
        try:
            await self._send([statement for row in rows for statement in row.statements])
        except InvalidRequest as error:
            if len(rows) == 1:
                _settle(rows, error)
                return
            # Cassandra refuses one of the rows, and applies none. The others must not share its error.
            await asyncio.gather(*(self._ask([row]) for row in rows))
        except Exception as error:
            _settle(rows, error)
        else:
            _settle(rows, None)


def _settle(rows: Iterable[_Row], error: Exception | None) -> None:
    for row in rows:
        if row.written.done():
            continue
        if error is None:
            row.written.set_result(None)
        else:
            row.written.set_exception(error)
