"""The index: an adapter over cassandra-driver.

The driver stamps the present time on every write unless told otherwise; here every write says USING TIMESTAMP.
"""

import asyncio
import contextlib
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import date, timedelta
from typing import Any, TypeVar
from uuid import UUID

import structlog
from cassandra import InvalidRequest, ReadFailure
from cassandra.cluster import EXEC_PROFILE_DEFAULT, Session
from cassandra.query import BatchStatement, BatchType, BoundStatement, PreparedStatement

from shared.cassandra.cql import COLUMNS, image_row, partition_clause, place_of, statement_of
from shared.cassandra.deployment import check_deployment, live_keyspace
from shared.cassandra.session import ENGINE_ERRORS, HANGS_AFTER, NODES_ASKED, connect, unavailable, use_keyspace
from shared.cassandra.slices import MAX_ID, MIN_ID, PAGE, Slices
from shared.cassandra.speculative_retry import hedged
from shared.concurrency import for_each
from shared.contract.keys import Owner, Partition
from shared.errors import TooManyDeletions, Unavailable
from shared.read_model.documents import ImageRow
from shared.read_model.tables import BY_DAY, DAYS, DAYS_BUCKET, IMAGES, Write
from shared.settings import Settings

log = structlog.get_logger()

T = TypeVar("T")
FOLLOW_SECONDS = 1.0
"""How often a process looks whether another keyspace has become the live one: one read of one row."""
PREPARED_AT_ONCE = 24
"""Threads, each of which a node that hangs holds for 10 s: enough for all statements of a request at all nodes."""
ROWS_AT_ONCE = 32
"""Rows of one call that are written at a time. A record writes four; a rebuild lists thousands of days at once."""
TOMBSTONES = 0x0001
"""Reason READ_TOO_MANY_TOMBSTONES in a replica's failure."""


@dataclass(frozen=True)
class _Connection:
    """A session with the statements that were prepared for its keyspace, and for no other."""

    session: Session
    keyspace: str
    prepared: dict[str, PreparedStatement] = field(default_factory=dict)
    preparing: dict[str, asyncio.Task[PreparedStatement]] = field(default_factory=dict)


class CassandraIndex:
    """`Index` on Cassandra. Statements are prepared once per shape; unknown columns are left out, never null.

    Once connected it serves from the live keyspace, and follows when a rebuild is switched to (see `live_keyspace`).
    `gap_memory` is how long spans of deleted rows are skipped (see `shared.cassandra.slices`); by default nothing is.
    """

    def __init__(self, session: Session | None = None, *, gap_memory: timedelta = timedelta(0)) -> None:
        self._connection = None if session is None else _Connection(session, session.keyspace or "")
        self._following: asyncio.Task[None] | None = None
        self._slices = Slices(gap_memory)
        # prepare() blocks.
        self._preparing = ThreadPoolExecutor(PREPARED_AT_ONCE, thread_name_prefix="cassandra-prepare")

    @classmethod
    async def open(cls, settings: Settings, keyspace: str | None = None) -> "CassandraIndex":
        """An index connected to the live keyspace, or to the one named. Raises Unavailable, ConfigurationError."""
        index = cls()
        await index.connect(settings, keyspace)
        return index

    async def connect(self, settings: Settings, keyspace: str | None = None) -> None:
        """Connect; until then every method raises Unavailable. Raises Unavailable, ConfigurationError.

        With a `keyspace` it stays with that one; else it serves from the live one, whichever that is.
        """
        self._connection = await asyncio.to_thread(_connection, settings, keyspace)
        if keyspace is None:
            self._following = asyncio.create_task(self._follow(settings))

    @property
    def keyspace(self) -> str:
        """The keyspace that is served from. Raises Unavailable before `connect`."""
        return self._connected().keyspace

    async def _follow(self, settings: Settings) -> None:
        """Move to another keyspace within a second of a switch; queries under way end where they began."""
        while True:
            await asyncio.sleep(FOLLOW_SECONDS)
            try:
                await self._look_for_switch(settings)
            except Exception as error:
                # Whatever it is: who stops looking serves rows for ever that nobody feeds any more.
                log.warning("live_keyspace_unknown", error=f"{type(error).__name__}: {error}")

    async def _look_for_switch(self, settings: Settings) -> None:
        old = self._connected()
        if await asyncio.to_thread(live_keyspace, old.session, settings) == old.keyspace:
            return
        self._connection = await asyncio.to_thread(_connection, settings, None)
        self._slices.forget()
        log.info("keyspace_switched", old=old.keyspace, new=self._connection.keyspace)
        await asyncio.sleep(2 * settings.cassandra_timeout.total_seconds())
        await asyncio.to_thread(old.session.cluster.shutdown)

    async def close(self) -> None:
        """Disconnect."""
        if self._following is not None:
            self._following.cancel()
        if self._connection is not None:
            await asyncio.to_thread(self._connection.session.cluster.shutdown)
        self._preparing.shutdown(wait=False)

    async def check(self) -> None:
        """Return if a query at LOCAL_QUORUM is answered; raises Unavailable."""
        await self.days()

    async def apply(self, writes: Sequence[Write]) -> None:
        """See Index.apply."""
        rows: dict[tuple[Any, ...], list[Write]] = {}
        for write in writes:
            rows.setdefault(place_of(write), []).append(write)
        await for_each(rows.values(), self._write, ROWS_AT_ONCE)

    async def _write(self, writes: Sequence[Write]) -> None:
        """Writes to one row, each at its own timestamp, as one mutation: half the requests, and nobody sees a part."""
        if len(writes) == 1:
            await self.execute(*statement_of(writes[0]))
            return
        with _translated_errors():
            connection = self._connected()
            batch = BatchStatement(BatchType.UNLOGGED)
            statements = [statement_of(write) for write in writes]
            for cql, values in statements:
                batch.add(await self._bind(connection, cql, values))
            batch.is_idempotent = True
            await self._ask(connection, batch, *(cql for cql, _ in statements))

    async def image(self, image_id: UUID) -> ImageRow | None:
        """See Index.image."""
        rows = await self.execute(f"SELECT {COLUMNS} FROM {IMAGES} WHERE image_id = ?", [image_id])
        return image_row(rows[0]) if rows else None

    async def of_owner(
        self, owner: Owner, *, below: UUID | None = None, above: UUID | None = None, limit: int = 50
    ) -> Sequence[ImageRow]:
        """See Index.of_owner."""
        return await self._newest(owner, COLUMNS, image_row, below, above, limit)

    async def ids(
        self, partition: Partition, *, below: UUID | None = None, above: UUID | None = None, limit: int = 50
    ) -> Sequence[UUID]:
        """See Index.ids."""
        rows = await self._newest(partition, "image_id", lambda row: row, below, above, limit)
        return [row.image_id for row in rows]

    async def count(self, partition: Partition, *, below: UUID | None = None, above: UUID | None = None) -> int:
        """See Index.count."""
        where, values = partition_clause(partition)
        cql = f"SELECT COUNT(*) AS total FROM {where} AND image_id < ? AND image_id > ?"

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
        return [image_row(row) for row in rows]

    async def ids_of_days(
        self, days: Sequence[date], shards: int, *, below: UUID | None = None, above: UUID | None = None, limit: int
    ) -> Sequence[UUID]:
        """See Index.ids_of_days."""
        # LIMIT changes nothing but this: with it, as it fits one page, Cassandra reads the partitions side by side.
        rows = await self.execute(
            f"SELECT image_id FROM {BY_DAY} WHERE day IN ? AND shard IN ? AND image_id < ? AND image_id > ?"
            f" PER PARTITION LIMIT ? LIMIT {PAGE}",
            [list(days), list(range(shards)), below or MAX_ID, above or MIN_ID, limit],
        )
        return [row.image_id for row in rows]

    async def rows_of_days(self, days: Sequence[date], shards: int, ids: Sequence[UUID]) -> Sequence[ImageRow]:
        """See Index.rows_of_days."""
        rows = await self.execute(
            f"SELECT {COLUMNS} FROM {BY_DAY} WHERE day IN ? AND shard IN ? AND image_id IN ? LIMIT {PAGE}",
            [list(days), list(range(shards)), list(ids)],
        )
        return [image_row(row) for row in rows]

    async def _newest(
        self,
        partition: Partition,
        columns: str,
        convert: Callable[[Any], T],
        below: UUID | None,
        above: UUID | None,
        limit: int,
    ) -> list[T]:
        where, values = partition_clause(partition)
        cql = f"SELECT {columns} FROM {where} AND image_id < ? AND image_id > ? LIMIT ?"

        async def read(upper: UUID, lower: UUID, most: int) -> list[Any]:
            return await self.execute(cql, [*values, upper, lower, most])

        found = await self._slices.newest(
            partition, read, lambda row: row.image_id, below=below, above=above, limit=limit
        )
        return [convert(row) for row in found]

    async def days(self) -> Sequence[date]:
        """See Index.days."""
        rows = await self.execute(f"SELECT day FROM {DAYS} WHERE bucket = ?", [DAYS_BUCKET])
        return [row.day.date() for row in rows]

    async def execute(self, cql: str, values: Sequence[Any]) -> list[Any]:
        """Rows (the first page, 5,000) of a prepared statement.

        Raises Unavailable, and InvalidRequest for values that Cassandra will never take.
        """
        with _translated_errors():
            # Statement and session must be of one keyspace, also when a switch comes in between.
            connection = self._connected()
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
        """Prepare once, however many wait for it, and whoever of them gives up."""
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
        """By the first node that answers: the driver itself asks one, which may hang, and no other."""
        loop = asyncio.get_running_loop()
        profile = connection.session.get_execution_profile(EXEC_PROFILE_DEFAULT)
        try:
            return await hedged(
                # The driver takes the nodes in turn.
                lambda: loop.run_in_executor(self._preparing, connection.session.prepare, cql),
                pause=HANGS_AFTER * profile.request_timeout,
                attempts=NODES_ASKED,
            )
        except InvalidRequest as error:
            raise Unavailable("cassandra", f"the schema has to be applied: {error}") from error

    async def _ask(self, connection: _Connection, bound: Any, *texts: str) -> list[Any]:
        """Rows of a statement bound from these texts.

        Cassandra says InvalidRequest to values that it can never take, and to tables or columns that are not there.
        The first is the record's fault and passes through, as nobody foresaw it: waiting would not help, and the
        record must not hold up its partition for ever. The second is the deployment's: a text that cannot be prepared
        any more is Unavailable until the schema is there, and no record is to blame.
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

        # The driver calls back on its IO thread, where nothing may be done but waking the loop.
        session.execute_async(bound).add_callbacks(
            lambda rows: loop.call_soon_threadsafe(settle, rows, None),
            lambda error: loop.call_soon_threadsafe(settle, None, error),
        )
        return await waiter


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


def _connection(settings: Settings, keyspace: str | None) -> _Connection:
    """Blocks. Raises Unavailable, ConfigurationError."""
    session = connect(settings, keyspace or settings.cassandra_keyspace)
    try:
        check_deployment(session, settings)
        if keyspace is None and (live := live_keyspace(session, settings)) != settings.cassandra_keyspace:
            use_keyspace(session, live, f"{settings.cassandra_keyspace}.deployment says that it serves; rebuild it")
        return _Connection(session, session.keyspace)
    except BaseException:
        session.cluster.shutdown()
        raise
