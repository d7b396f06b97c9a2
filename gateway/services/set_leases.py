"""Leases of owners' sets: at most one request at a time replaces all images of an owner (invariant 9, ADR 14).

1. Take. One lightweight transaction gives the lease to the request. While another request holds it, the request is
   refused. No clock of a gateway is involved: the lease is a column with a TTL.
2. Renew. The gateway renews the lease while the request runs. A gateway that is killed or hangs does not, so the lease
   ends after its TTL.
3. Begin uploads. Before its first upload the request marks the lease. If the request ends without its fence, the mark
   stays, and the next request knows that the index may lack some of the owner's images.
4. Confirm. Immediately before its fence the request checks that the lease is still its own. If it is not, another
   request may have replaced the set since, and the fence could be between the uploads of that request.
5. End. The lease is free at once.
"""

import asyncio
import hashlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta
from math import ceil
from typing import Protocol
from uuid import UUID, uuid4

import structlog

from gateway.http.problems import RETRY_AFTER, Problem
from shared.cassandra.index import CassandraIndex
from shared.contract.keys import Owner
from shared.errors import Unavailable

log = structlog.get_logger()

RETRY_SOON = {"Retry-After": "1"}
"""A set is replaced within a second. If its gateway has died, the lease lasts longer, and the client asks again."""
RENEWALS = 3
"""Renewals within one lease, so that one that fails does not end it."""


@dataclass(frozen=True)
class LeaseRow:
    """A row of `set_leases`. `holder` is None if no request holds the lease.

    `unfenced` says that this request, or one before it, may have appended uploads without a fence.
    """

    holder: UUID | None
    unfenced: bool


class LeaseTable(Protocol):
    """Leases with compare-and-set. Every method raises Unavailable."""

    async def take(self, scope: str, holder: UUID, duration: timedelta) -> LeaseRow:
        """Give the lease to the holder if no request holds it; returns the row as it is then."""

    async def renew(self, scope: str, holder: UUID, duration: timedelta, *, unfenced: bool = False) -> bool:
        """Start the lease again if it is this holder's, and mark it `unfenced` if asked; returns whether it was."""

    async def end(self, scope: str, holder: UUID, *, unfenced: bool) -> None:
        """End the lease if it is this holder's. The mark `unfenced` is kept or removed."""


class SetLease:
    """A lease that this request holds, or has held."""

    def __init__(self, table: LeaseTable, scope: str, holder: UUID, duration: timedelta, *, unfenced: bool) -> None:
        self._table = table
        self._scope = scope
        self._holder = holder
        self._duration = duration
        self.unfenced = unfenced
        """Whether uploads of a set, of this request or of an earlier one, may be in the log without a fence."""

    async def begin_uploads(self) -> None:
        """Mark the lease. Call it before the first upload is appended. Raises Problem `unavailable`, Unavailable."""
        self.unfenced = True
        await self._renew(unfenced=True)

    async def confirm(self) -> None:
        """Return if the lease is still this request's. Raises Problem `unavailable` if it is not, and Unavailable."""
        await self._renew(unfenced=False)

    def fenced(self) -> None:
        """The fence has removed what earlier requests have left."""
        self.unfenced = False

    async def _renew(self, *, unfenced: bool) -> None:
        if not await self._table.renew(self._scope, self._holder, self._duration, unfenced=unfenced):
            log.warning("set_lease_lost")
            detail = "the request took too long, and another one may have replaced the owner's images since"
            raise Problem("unavailable", detail, headers=RETRY_AFTER)

    async def keep(self) -> None:
        """Renew the lease again and again, until it is lost or this task is cancelled."""
        while True:
            await asyncio.sleep(self._duration.total_seconds() / RENEWALS)
            try:
                if not await self._table.renew(self._scope, self._holder, self._duration):
                    return
            except Unavailable as error:
                log.warning("set_lease_not_renewed", error=str(error))

    async def end(self) -> None:
        """End the lease. A failure is only logged: the lease ends after its TTL."""
        try:
            await self._table.end(self._scope, self._holder, unfenced=self.unfenced)
        except Unavailable as error:
            log.warning("set_lease_not_ended", error=str(error))


class SetLeases:
    """The leases of all owners, as this gateway takes them."""

    def __init__(self, table: LeaseTable, duration: timedelta) -> None:
        self._table = table
        self._duration = duration

    @asynccontextmanager
    async def hold(self, owner: Owner) -> AsyncIterator[SetLease]:
        """Hold the lease of the owner during the block. Raises Problem `in_flight`, and Unavailable."""
        scope, holder = hashlib.sha256(owner.key.encode()).hexdigest(), uuid4()
        found = await self._table.take(scope, holder, self._duration)
        if found.holder != holder:
            raise Problem("in_flight", "another request replaces the images of this owner", headers=RETRY_SOON)
        lease = SetLease(self._table, scope, holder, self._duration, unfenced=found.unfenced)
        keeping = asyncio.create_task(lease.keep())
        try:
            yield lease
        finally:
            keeping.cancel()
            await asyncio.gather(keeping, return_exceptions=True)
            await lease.end()


class CassandraLeaseTable:
    """`LeaseTable` with Cassandra's lightweight transactions.

    The table is always that of `keyspace`, not of the live one: during a switch two gateways can use different ones.

    The driver sends a statement again if a node hangs. If the first one was applied, the second finds this request's
    holder in the row. `take` counts that as success.
    """

    def __init__(self, index: CassandraIndex, keyspace: str) -> None:
        self._index = index
        self._table = f"{keyspace}.set_leases"

    async def take(self, scope: str, holder: UUID, duration: timedelta) -> LeaseRow:
        """See LeaseTable.take."""
        take = f"UPDATE {self._table} USING TTL ? SET holder = ? WHERE scope = ? IF holder = null"
        values = [_seconds(duration), holder, scope]
        [result] = await self._index.execute(f"{take} AND unfenced = null", values)
        if result.applied:
            return LeaseRow(holder, unfenced=False)
        if result.holder is not None:
            return LeaseRow(result.holder, bool(result.unfenced))
        [result] = await self._index.execute(take, values)
        return LeaseRow(holder if result.applied else result.holder, unfenced=True)

    async def renew(self, scope: str, holder: UUID, duration: timedelta, *, unfenced: bool = False) -> bool:
        """See LeaseTable.renew."""
        cql = f"UPDATE {self._table} USING TTL ? SET holder = ? WHERE scope = ? IF holder = ?"
        values = [_seconds(duration), holder, scope, holder]
        if unfenced:
            # One transaction. The mark has the TTL of the table, because it must outlive the lease.
            mark = f"UPDATE {self._table} SET unfenced = true WHERE scope = ?"
            cql, values = f"BEGIN BATCH {cql}; {mark}; APPLY BATCH", [*values, scope]
        [result] = await self._index.execute(cql, values)
        return bool(result.applied)

    async def end(self, scope: str, holder: UUID, *, unfenced: bool) -> None:
        """See LeaseTable.end."""
        what = "holder" if unfenced else ""
        await self._index.execute(f"DELETE {what} FROM {self._table} WHERE scope = ? IF holder = ?", [scope, holder])


def _seconds(duration: timedelta) -> int:
    return max(1, ceil(duration.total_seconds()))
