"""The index: an adapter over cassandra-driver.

The driver would give every write the present time as its timestamp. Here every statement has USING TIMESTAMP, with the
version of a record.
"""

import asyncio
import contextlib
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import date, timedelta
from functools import partial
from threading import get_ident
from typing import Any
from uuid import UUID

import structlog
from cassandra import InvalidRequest, ReadFailure
from cassandra.cluster import EXEC_PROFILE_DEFAULT, Session
from cassandra.connection import Connection
from cassandra.query import BoundStatement, PreparedStatement

from shared.cassandra.column_groups import Texts
from shared.cassandra.cql import COLUMNS, image_row, is_image, partition_clause, statement_of
from shared.cassandra.deployment import InUse, check_deployment, in_use, in_use_query, live_keyspace
from shared.cassandra.known_days import KnownDays
from shared.cassandra.loop_connection import connections_on
from shared.cassandra.requests import Row, batch_of, partition_of, steps
from shared.cassandra.row_queue import RowQueue
from shared.cassandra.session import ENGINE_ERRORS, HANGS_AFTER, NODES_ASKED, connect, unavailable, use_keyspace
from shared.cassandra.slices import MAX_ID, MIN_ID, PAGE, Slices
from shared.cassandra.speculative_retry import with_speculative_retry
from shared.contract.keys import DayShard, Owner, Partition
from shared.errors import TooManyDeletions, Unavailable
from shared.ports import DayIds
from shared.read_model.documents import ImageRow
from shared.read_model.tables import BY_DAY, DAYS, DAYS_BUCKET, FENCES, IMAGES, Update, Write
from shared.settings import Settings

log = structlog.get_logger()

Connect = Callable[[Settings, str | None], Session]
"""Function that connects to the given keyspace, or to the live one. It blocks."""
FOLLOW_SECONDS = 3.0
"""Pause between two checks of the keyspaces that are in use. Each check is one query. It takes an idle node 10 ms of
CPU time, because the node's threads spin before they sleep."""
SWITCHING_SECONDS = 1.0
"""The same while a switch is in progress."""
PREPARED_AT_ONCE = 24
"""Threads that prepare statements. A hanging node blocks a thread for 10 s. There are enough threads to prepare all
statements of a request at all nodes."""
REQUESTS_AT_ONCE = 256
"""Requests with rows that a gateway has in progress. A node that hangs holds each of its requests for seconds."""
BULK_REQUESTS_AT_ONCE = 32
"""The same for a process that writes many rows, and waits for none of them in particular: more rows share a request."""
TOMBSTONES = 0x0001
"""Cassandra's error code READ_TOO_MANY_TOMBSTONES in the failure of a replica."""


@dataclass(frozen=True)
class _Connection:
    """A session, and the statements that are prepared for its keyspace."""

    session: Session
    keyspace: str
    rows: RowQueue
    prepared: dict[str, PreparedStatement] = field(default_factory=dict)
    preparing: dict[str, asyncio.Task[PreparedStatement]] = field(default_factory=dict)
    days: KnownDays = field(default_factory=KnownDays)


class CassandraIndex:
    """`Index` on Cassandra.

    Each CQL text is prepared once. A write names only the columns that it has and never writes null.
    The index reads and writes the live keyspace, and follows a switch to a rebuilt one (see `live_keyspace`). While a
    switch is in progress it writes to both keyspaces: processes follow at different times within a second, and each
    must find what another one has acknowledged.
    `gap_memory` is the time for which known spans of deleted rows are skipped (see `shared.cassandra.slices`). By
    default no span is skipped. `requests_at_once` bounds the requests with rows that are in progress (see `RowQueue`).
    """

    def __init__(
        self,
        session: Session | None = None,
        *,
        gap_memory: timedelta = timedelta(0),
        requests_at_once: int = REQUESTS_AT_ONCE,
        connect: Connect | None = None,
    ) -> None:
        self._requests_at_once = requests_at_once
        self._connection = None if session is None else self._connection_of(session)
        self._connect = connect
        self._beside: _Connection | None = None
        """The other keyspace of a switch that is in progress."""
        self._following: asyncio.Task[None] | None = None
        self._disconnecting: set[asyncio.Task[None]] = set()
        self._slices = Slices(gap_memory)
        # The driver's prepare() blocks, so it runs in threads.
        self._preparing = ThreadPoolExecutor(PREPARED_AT_ONCE, thread_name_prefix="cassandra-prepare")

    def _connection_of(self, session: Session) -> _Connection:
        async def send(statements: Sequence[BoundStatement]) -> None:
            await self._send(connection, statements)

        connection = _Connection(session, session.keyspace or "", RowQueue(send, self._requests_at_once))
        return connection

    @classmethod
    async def open(
        cls, settings: Settings, keyspace: str | None = None, *, requests_at_once: int = REQUESTS_AT_ONCE
    ) -> "CassandraIndex":
        """Connect to the live keyspace, or to the given one. Raises Unavailable, ConfigurationError."""
        index = cls(requests_at_once=requests_at_once)
        await index.connect(settings, keyspace)
        return index

    async def connect(self, settings: Settings, keyspace: str | None = None) -> None:
        """Connect. Every other method raises Unavailable before that. Raises Unavailable, ConfigurationError.

        With a `keyspace` the index stays with that keyspace. Without one it uses the live keyspace and follows a
        switch.
        """
        connection = await self._new_connection(settings, keyspace)
        if keyspace is None:
            self._beside = await self._other_connection(connection, await self._in_use(connection, settings), settings)
        self._connection = connection
        if keyspace is None:
            self._following = asyncio.create_task(self._follow(settings))

    @property
    def keyspace(self) -> str:
        """The keyspace in use. Raises Unavailable before `connect`."""
        return self._connected().keyspace

    async def _follow(self, settings: Settings) -> None:
        """Use another keyspace within a second of a switch. Running queries finish in the old keyspace."""
        failed = False
        while True:
            await asyncio.sleep(SWITCHING_SECONDS if failed or self._beside else FOLLOW_SECONDS)
            try:
                await self._check_live_keyspace(settings)
                failed = False
            except Exception as error:
                # If this loop stopped, the process would keep serving a keyspace that is no longer updated.
                log.warning("live_keyspace_check_failed", error=f"{type(error).__name__}: {error}")
                failed = True

    async def _check_live_keyspace(self, settings: Settings) -> None:
        old, beside = self._connected(), self._beside
        found = await self._in_use(old, settings)
        if found.live == old.keyspace:
            if found.beside(old.keyspace) != (beside.keyspace if beside else None):
                self._beside = await self._other_connection(old, found, settings)
                self._disconnect_later(settings, beside)
            return
        new = await self._new_connection(settings, None)
        other = await self._other_connection(new, await self._in_use(new, settings), settings)
        # At once, so that no write misses a keyspace.
        self._connection, self._beside = new, other
        self._slices.forget()
        log.info("keyspace_switched", old=old.keyspace, new=new.keyspace)
        self._disconnect_later(settings, old, beside)

    def _disconnect_later(self, settings: Settings, *connections: _Connection | None) -> None:
        """Disconnect once the queries that use the connections have ended. Checks go on in the meantime."""

        async def disconnect() -> None:
            try:
                await asyncio.sleep(2 * settings.cassandra_timeout.total_seconds())
            finally:
                for connection in filter(None, connections):
                    await asyncio.to_thread(connection.session.cluster.shutdown)

        task = asyncio.create_task(disconnect())
        self._disconnecting.add(task)
        task.add_done_callback(self._disconnecting.discard)

    async def _new_connection(self, settings: Settings, keyspace: str | None) -> _Connection:
        connect = self._connect or partial(connect_to_index, connections=connections_on(asyncio.get_running_loop()))
        return self._connection_of(await asyncio.to_thread(connect, settings, keyspace))

    async def _in_use(self, connection: _Connection, settings: Settings) -> InUse:
        return in_use(await self._execute(connection, in_use_query(settings), []), settings)

    async def _other_connection(self, connection: _Connection, in_use: InUse, settings: Settings) -> _Connection | None:
        """A connection to the other keyspace of a switch that is in progress."""
        other = in_use.beside(connection.keyspace)
        return None if other is None else await self._new_connection(settings, other)

    async def close(self) -> None:
        """Disconnect."""
        ending = [*filter(None, [self._following]), *self._disconnecting]
        for task in ending:
            task.cancel()
        await asyncio.gather(*ending, return_exceptions=True)
        for connection in filter(None, (self._connection, self._beside)):
            await asyncio.to_thread(connection.session.cluster.shutdown)
        # A statement that is being prepared ends by a timer of the driver, which needs the event loop.
        await asyncio.to_thread(self._preparing.shutdown)

    async def check(self) -> None:
        """Return if Cassandra answers a query at LOCAL_QUORUM. Raises Unavailable."""
        await self.days()

    async def apply(self, writes: Sequence[Write]) -> None:
        """See Index.apply."""
        texts = Texts()
        # Both are read once: a switch in between must not leave some of the rows out of one keyspace.
        for connection in filter(None, (self._connected(), self._beside)):
            needed = connection.days.without(writes)
            for step in steps(needed):
                await self._write(connection, step, texts)
            connection.days.acknowledged(needed)
        for write in writes:
            if isinstance(write, Update) and write.table == IMAGES:
                self._slices.written(write.key["image_id"])

    async def _write(self, connection: _Connection, rows: Sequence[Row], texts: Texts) -> None:
        """Write rows at the same time."""
        with _translated_errors():
            bound = [[await self._bind(connection, *statement_of(write, texts)) for write in row] for row in rows]
            await connection.rows.write(zip(map(partition_of, rows), bound, strict=True))

    async def _send(self, connection: _Connection, statements: Sequence[BoundStatement]) -> None:
        request = statements[0] if len(statements) == 1 else batch_of(statements)
        request.is_idempotent = True
        await self._ask(connection, request, *{each.prepared_statement.query_string for each in statements})

    async def image(self, image_id: UUID) -> ImageRow | None:
        """See Index.image."""
        rows = await self.execute(f"SELECT {COLUMNS} FROM {IMAGES} WHERE image_id = ?", [image_id])
        return next(_images(rows), None)

    async def cleared_before(self, owner: Owner) -> int:
        """See Index.cleared_before."""
        cql = f"SELECT before FROM {FENCES} WHERE owner_type = ? AND owner_id = ?"
        rows = await self.execute(cql, [owner.type, owner.id])
        return int(rows[0].before) if rows else 0

    async def of_owner(
        self, owner: Owner, *, below: UUID | None = None, above: UUID | None = None, limit: int = 50
    ) -> Sequence[ImageRow]:
        """See Index.of_owner."""
        return [image_row(row) for row in await self._newest(owner, COLUMNS, is_image, below, above, limit)]

    async def ids(
        self, partition: Partition, *, below: UUID | None = None, above: UUID | None = None, limit: int = 50
    ) -> Sequence[UUID]:
        """See Index.ids."""
        rows = await self._newest(partition, "image_id, image_version", is_image, below, above, limit)
        return [row.image_id for row in rows]

    async def row_ids(self, owner: Owner, *, below: UUID | None = None, limit: int = 50) -> Sequence[UUID]:
        """See Index.row_ids."""
        return [row.image_id for row in await self._newest(owner, "image_id", lambda _: True, below, None, limit)]

    async def count(self, partition: Partition, *, below: UUID | None = None, above: UUID | None = None) -> int:
        """See Index.count."""
        where, values = partition_clause(partition)
        cql = f"SELECT COUNT(image_version) AS total FROM {where} AND image_id < ? AND image_id > ?"

        async def count(upper: UUID, lower: UUID) -> int:
            rows = await self.execute(cql, [*values, upper, lower])
            return int(rows[0].total)

        return await self._slices.total(partition, count, below=below, above=above)

    async def rows(self, partition: Partition, ids: Sequence[UUID]) -> Sequence[ImageRow]:
        """See Index.rows."""
        if not ids:
            return []
        where, values = partition_clause(partition)
        rows = await self.execute(f"SELECT {COLUMNS} FROM {where} AND image_id IN ?", [*values, list(ids)])
        return list(_images(rows))

    async def ids_of_days(
        self, days: Sequence[date], shards: int, *, below: UUID | None = None, above: UUID | None = None, limit: int
    ) -> DayIds:
        """See Index.ids_of_days."""
        # The LIMIT is there for speed: Cassandra reads the partitions concurrently if the result fits into one page.
        rows = await self.execute(
            f"SELECT day, shard, image_id, image_version FROM {BY_DAY}"
            " WHERE day IN ? AND shard IN ? AND image_id < ? AND image_id > ?"
            f" PER PARTITION LIMIT ? LIMIT {PAGE}",
            [list(days), list(range(shards)), below or MAX_ID, above or MIN_ID, limit],
        )
        found: dict[DayShard, list[Any]] = {}
        for row in rows:
            found.setdefault(DayShard(row.day.date(), row.shard), []).append(row)
        return DayIds(
            {partition: [row.image_id for row in part if is_image(row)] for partition, part in found.items()},
            {partition for partition, part in found.items() if len(part) == limit},
        )

    async def rows_of_days(self, days: Sequence[date], shards: int, ids: Sequence[UUID]) -> Sequence[ImageRow]:
        """See Index.rows_of_days."""
        cql = f"SELECT {COLUMNS} FROM {BY_DAY} WHERE day IN ? AND shard IN ?"
        places = [list(days), list(range(shards))]
        rows = []
        with contextlib.suppress(TooManyDeletions):
            # A range costs less than a lookup of every id in every partition, unless it has many deleted rows.
            span = [max(ids), min(ids)]
            rows = await self.execute(f"{cql} AND image_id <= ? AND image_id >= ? LIMIT {PAGE}", [*places, *span])
        if not rows or len(rows) == PAGE:
            rows = await self.execute(f"{cql} AND image_id IN ? LIMIT {PAGE}", [*places, list(ids)])
        return [image_row(row) for row in _wanted(rows, set(ids))]

    async def _newest(
        self,
        partition: Partition,
        columns: str,
        counts: Callable[[Any], bool],
        below: UUID | None,
        above: UUID | None,
        limit: int,
    ) -> list[Any]:
        where, values = partition_clause(partition)
        cql = f"SELECT {columns} FROM {where} AND image_id < ? AND image_id > ? LIMIT ?"

        async def read(upper: UUID, lower: UUID, most: int) -> list[Any]:
            return await self.execute(cql, [*values, upper, lower, most])

        return await self._slices.newest(
            partition, read, lambda row: row.image_id, below=below, above=above, limit=limit, counts=counts
        )

    async def days(self) -> Sequence[date]:
        """See Index.days."""
        rows = await self.execute(f"SELECT day FROM {DAYS} WHERE bucket = ?", [DAYS_BUCKET])
        return [row.day.date() for row in rows]

    async def execute(self, cql: str, values: Sequence[Any]) -> list[Any]:
        """Execute a prepared statement; returns its rows (the first page, 5,000).

        Raises Unavailable, and InvalidRequest for values that Cassandra never accepts.
        """
        # Read once: statement and session must belong to one keyspace, even if a switch happens in between.
        return await self._execute(self._connected(), cql, values)

    async def _execute(self, connection: _Connection, cql: str, values: Sequence[Any]) -> list[Any]:
        with _translated_errors():
            bound = await self._bind(connection, cql, values)
            bound.is_idempotent = True
            return await self._ask(connection, bound, cql)

    async def _bind(self, connection: _Connection, cql: str, values: Sequence[Any]) -> BoundStatement:
        statement = connection.prepared.get(cql) or await self._prepare(connection, cql)
        return statement.bind(values)

    def _connected(self) -> _Connection:
        if self._connection is None:
            raise Unavailable("cassandra", "not connected yet")
        return self._connection

    async def _prepare(self, connection: _Connection, cql: str) -> PreparedStatement:
        """Prepare a statement once for all callers that wait for it. A caller that is cancelled does not stop it."""
        preparing = connection.preparing.get(cql)
        if preparing is None:
            preparing = connection.preparing[cql] = asyncio.create_task(self._prepare_somewhere(connection, cql))

            def settle(done: asyncio.Task[PreparedStatement]) -> None:
                del connection.preparing[cql]
                if not done.cancelled() and done.exception() is None:
                    connection.prepared[cql] = done.result()

            preparing.add_done_callback(settle)
        return await asyncio.shield(preparing)

    async def _prepare_somewhere(self, connection: _Connection, cql: str) -> PreparedStatement:
        """Prepare at the first node that answers. The driver itself tries one node only, and that node may hang."""
        loop = asyncio.get_running_loop()
        profile = connection.session.get_execution_profile(EXEC_PROFILE_DEFAULT)
        try:
            return await with_speculative_retry(
                # Each call goes to the next node of the driver's query plan.
                lambda: loop.run_in_executor(self._preparing, connection.session.prepare, cql),
                pause=HANGS_AFTER * profile.request_timeout,
                attempts=NODES_ASKED,
            )
        except InvalidRequest as error:
            raise Unavailable(
                "cassandra", f"the keyspace lacks a table or column, apply the schema: {error}"
            ) from error

    async def _ask(self, connection: _Connection, bound: Any, *texts: str) -> list[Any]:
        """Rows of a bound statement; `texts` are its CQL texts.

        Cassandra returns InvalidRequest in two cases: for values that it never accepts, and for tables or columns that
        do not exist. In the first case the record is invalid. The error is raised unchanged, so that the record becomes
        a dead letter and does not block its partition. In the second case the schema is missing. The text cannot be
        prepared again, which raises Unavailable: the record is correct and waits for the schema.
        """
        try:
            return await self._run(connection.session, bound)
        except InvalidRequest:
            for cql in texts:
                await self._prepare(connection, cql)
            raise

    async def _run(self, session: Session, bound: Any) -> list[Any]:
        loop = asyncio.get_running_loop()
        waiter: asyncio.Future[list[Any]] = loop.create_future()

        def settle(rows: list[Any] | None, error: Exception | None) -> None:
            if waiter.done():
                return
            if error is not None:
                waiter.set_exception(error)
            else:
                waiter.set_result(rows or [])

        def answered(rows: list[Any] | None, error: Exception | None = None) -> None:
            # An error may come from a thread of the driver.
            if get_ident() == thread:
                settle(rows, error)
            else:
                loop.call_soon_threadsafe(settle, rows, error)

        thread = get_ident()
        session.execute_async(bound).add_callbacks(answered, lambda error: answered(None, error))
        return await waiter


def _wanted(rows: Iterable[Any], ids: Collection[UUID]) -> Iterator[Any]:
    return (row for row in rows if row.image_id in ids and is_image(row))


def _images(rows: Iterable[Any]) -> Iterator[ImageRow]:
    """The images among result rows that have COLUMNS."""
    return (image_row(row) for row in rows if is_image(row))


@contextlib.contextmanager
def _translated_errors() -> Iterator[None]:
    try:
        yield
    except ReadFailure as error:
        kind = TooManyDeletions if TOMBSTONES in (error.error_code_map or {}).values() else Unavailable
        raise kind("cassandra", str(error)) from error
    except InvalidRequest:
        raise
    except ENGINE_ERRORS as error:
        raise unavailable(error) from error


def connect_to_index(settings: Settings, keyspace: str | None, connections: type[Connection] | None = None) -> Session:
    """A session on the given keyspace, or on the live one. Blocks. Raises Unavailable, ConfigurationError."""
    session = connect(settings, keyspace or settings.cassandra_keyspace, connections)
    try:
        check_deployment(session, settings)
        if keyspace is None and (live := live_keyspace(session, settings)) != settings.cassandra_keyspace:
            use_keyspace(session, live, f"{settings.cassandra_keyspace}.deployment names it as live; rebuild it")
        return session
    except BaseException:
        session.cluster.shutdown()
        raise
