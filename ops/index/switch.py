"""Makes a rebuilt keyspace the live one while clients go on, so that no list ever misses an acknowledged image."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import Any

from cassandra.cluster import Session
from cassandra.query import SimpleStatement

from ops.index.rebuild import Rebuild
from shared.cassandra.deployment import begin_switch, end_switch, switch_keyspace
from shared.cassandra.index import FOLLOW_SECONDS, SWITCHING_SECONDS, CassandraIndex
from shared.cassandra.session import connect, engine_errors
from shared.concurrency import for_each
from shared.settings import Settings

NOTICED_SECONDS = FOLLOW_SECONDS + 3.0
"""After this every process has read an announcement, and is connected to both keyspaces."""
SWITCH_SECONDS = 10.0
"""For how long both keyspaces are kept up to date after a switch."""
EXPIRES = timedelta(minutes=1)
"""How long processes write to both keyspaces after a switch was interrupted."""
REFRESH_SECONDS = 10.0
CLAIMS_AT_ONCE = 32
"""Claims that are copied at a time. Each is a lightweight transaction, which takes four round trips."""
CLAIMS_PAGE = 1000
_DAY_SECONDS = 86_400
_COLUMNS = ("fingerprint", "image_ids", "revisions", "lease_until", "holder", "status", "response")


class Switch:
    """Switches a deployment from the keyspace `old` to that of the rebuild. Raises Unavailable."""

    def __init__(self, settings: Settings, rebuild: Rebuild, old: str, *, follows_log: bool) -> None:
        """`follows_log` is false for a rebuild from manifests alone: there is no position in the log to go on from."""
        self._settings = settings
        self._rebuild = rebuild
        self._target = rebuild.target
        self._old = old
        self._follows_log = follows_log

    async def run(self) -> None:
        """Make the rebuilt keyspace the live one.

        1. The claims of idempotency keys are copied, so that a retry of a client is recognised in both keyspaces. This
           may take minutes, so it comes first.
        2. A switch is announced. From then on every process writes to both keyspaces.
        3. The claims since 1 are copied, and the log is followed up to its end at that time. What was acknowledged
           before 2 is in it. Nothing that takes long is left between this and 4.
        4. The record of the live keyspace is written. Every process moves to it within a second.
        5. Both keyspaces are kept up to date from the log for some seconds more. This is for processes of an older
           version, and for those that could not read the record in time.

        If this is interrupted, the announcement expires, and the switch has happened or not: both keyspaces are whole.
        """
        session = await asyncio.to_thread(connect, self._settings)
        old = await CassandraIndex.open(self._settings, self._old)
        try:
            await self._copy_claims(session)
            async with self._announced(session):
                await asyncio.sleep(NOTICED_SECONDS)
                await self._copy_claims(session)
                await self._follow(old)
                await asyncio.to_thread(switch_keyspace, session, self._settings, self._target.keyspace)
                deadline = asyncio.get_running_loop().time() + SWITCH_SECONDS
                while asyncio.get_running_loop().time() < deadline:
                    await self._follow(old)
                    await asyncio.sleep(SWITCHING_SECONDS / 2)
            await self._copy_claims(session)
        finally:
            await old.close()
            await asyncio.to_thread(session.cluster.shutdown)

    async def _follow(self, old: CassandraIndex) -> None:
        if self._follows_log:
            await self._rebuild.follow([self._target, old])

    @asynccontextmanager
    async def _announced(self, session: Session) -> AsyncIterator[None]:
        """Announce the switch during the block."""

        def begin() -> None:
            begin_switch(session, self._settings, self._old, self._target.keyspace, EXPIRES)

        async def refresh() -> None:
            while True:
                await asyncio.sleep(REFRESH_SECONDS)
                await asyncio.to_thread(begin)

        await asyncio.to_thread(begin)
        refreshing = asyncio.create_task(refresh())
        try:
            yield
        finally:
            refreshing.cancel()
            await asyncio.gather(refreshing, return_exceptions=True)
            await asyncio.to_thread(end_switch, session, self._settings)

    async def _copy_claims(self, session: Session) -> None:
        """Copy the claims that the target does not have yet, and the replies that it does not have."""
        await for_each(self._claims(session), self._copy_claim, CLAIMS_AT_ONCE)

    async def _claims(self, session: Session) -> AsyncIterator[Any]:
        query = f"SELECT scope, {', '.join(_COLUMNS)}, TTL(fingerprint) AS left FROM {self._old}.idempotency_keys"
        statement, state = SimpleStatement(query, fetch_size=CLAIMS_PAGE, is_idempotent=True), None
        while True:
            rows, state = await asyncio.to_thread(_page, session, statement, state)
            for row in rows:
                yield row
            if state is None:
                return

    async def _copy_claim(self, row: Any) -> None:
        """Copy one claim with what is left of its day, unless a gateway has claimed it in the target since."""
        values, left = [getattr(row, name) for name in _COLUMNS], row.left or _DAY_SECONDS
        names, marks = ", ".join(_COLUMNS), ", ".join("?" * len(_COLUMNS))
        insert = f"INSERT INTO idempotency_keys (scope, {names}) VALUES (?, {marks}) IF NOT EXISTS USING TTL ?"
        [result] = await self._target.execute(insert, [row.scope, *values, left])
        if result.applied or row.status is None or result.status is not None:
            return
        # The request has ended since its claim was copied.
        columns = ", ".join(f"{name} = ?" for name in _COLUMNS)
        update = f"UPDATE idempotency_keys USING TTL ? SET {columns} WHERE scope = ? IF holder = ?"
        await self._target.execute(update, [left, *values, row.scope, row.holder])


def _page(session: Session, statement: SimpleStatement, state: bytes | None) -> tuple[list[Any], bytes | None]:
    with engine_errors():
        result = session.execute(statement, paging_state=state)
        return list(result.current_rows), result.paging_state
