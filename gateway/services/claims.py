"""Claims: a request takes effect once per Idempotency-Key, or once per ETag of an incoming object.

1. Claim. One lightweight transaction writes the ids, the fingerprint, the holder and the end of the lease. Every later
   try of the request uses these ids.
2. If there is a claim already: a request with another fingerprint is refused. A stored reply is returned. While the
   lease lasts, the request is a conflict. After its end the request takes the claim over, with the same ids. A clock
   that is wrong can end or extend a lease, but two requests at the same time only write the same record twice.
3. Complete. The reply is stored until the claim expires, a day after its last change. If this fails, a retry does the
   same work under the same ids; its only effect is a second record in the log.
"""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any, Protocol
from uuid import UUID, uuid4

import structlog

from gateway.http.problems import Problem
from shared.cassandra.index import CassandraIndex
from shared.contract.keys import Ids
from shared.errors import Unavailable

log = structlog.get_logger()

MAX_RETRY_AFTER = 2
"""Seconds. A running request takes less. If its gateway has died, its lease lasts longer, and the client asks again."""


@dataclass(frozen=True)
class Reply:
    """A response that can be stored: status, headers, JSON body."""

    status: int
    body: Any
    headers: dict[str, str]

    def encode(self) -> bytes:
        """Headers and body as bytes, for the table."""
        return json.dumps({"headers": self.headers, "body": self.body}).encode()

    @classmethod
    def decode(cls, status: int, stored: bytes) -> "Reply":
        """The reply whose `encode` gave these bytes."""
        found = json.loads(stored)
        return cls(status, found["body"], found["headers"])


@dataclass(frozen=True)
class ClaimRow:
    """A row of `idempotency_keys`. `reply` is None until the request is done."""

    fingerprint: str
    ids: tuple[Ids, ...]
    lease_until: datetime
    holder: UUID
    reply: Reply | None = None


class ClaimTable(Protocol):
    """Claims with compare-and-set. Every method raises Unavailable."""

    async def insert(self, scope: str, row: ClaimRow) -> ClaimRow | None:
        """Insert the row if the scope has none; else return the row that it has."""

    async def update(self, scope: str, row: ClaimRow, holder: UUID) -> bool:
        """Replace the row if it is this holder's; returns whether it was."""

    async def delete(self, scope: str, holder: UUID) -> None:
        """Remove the row if it is this holder's."""


@dataclass(frozen=True)
class Claim:
    """A claim that this request holds."""

    scope: str
    row: ClaimRow


class Claims:
    """Makes, completes and releases claims by the rules above."""

    def __init__(
        self, table: ClaimTable, lease: timedelta, clock: Callable[[], datetime] = lambda: datetime.now(UTC)
    ) -> None:
        self._table = table
        self._lease = lease
        self._clock = clock

    async def claim(self, scope: str, fingerprint: str, ids: Sequence[Ids]) -> Claim | Reply:
        """The claim, with these ids or those of an earlier try; or the stored reply of an earlier try.

        Raises Problem `key_reused` and `in_flight`, and Unavailable.
        """
        now = self._clock()
        mine = ClaimRow(fingerprint, tuple(ids), now + self._lease, uuid4())
        found = await self._table.insert(scope, mine)
        if found is None:
            return Claim(scope, mine)
        if found.fingerprint != fingerprint:
            raise Problem("key_reused", "this Idempotency-Key was used with other fields or files")
        if found.reply is not None:
            return found.reply
        # A lease that ends later than a new one would is from a clock that was ahead. It would block the key until the
        # row expires after a day.
        if now < found.lease_until <= now + self._lease:
            raise _in_flight(found.lease_until - now)
        taken = replace(mine, ids=found.ids)
        if not await self._table.update(scope, taken, found.holder):
            raise _in_flight(self._lease)
        return Claim(scope, taken)

    async def complete(self, claim: Claim, reply: Reply) -> None:
        """Store the reply. A failure is only logged: a retry does the same work again, with the same result."""
        await self._settle(
            "complete", self._table.update(claim.scope, replace(claim.row, reply=reply), claim.row.holder)
        )

    async def release(self, claim: Claim) -> None:
        """End the lease, so that the next try takes the claim over at once. For work that may be half done."""
        ended = replace(claim.row, lease_until=self._clock())
        await self._settle("release", self._table.update(claim.scope, ended, claim.row.holder))

    async def forget(self, claim: Claim) -> None:
        """Remove the claim. For requests that were refused before they changed anything."""
        await self._settle("forget", self._table.delete(claim.scope, claim.row.holder))

    async def _settle(self, what: str, writing: Any) -> None:
        try:
            await writing
        except Unavailable as error:
            log.warning("claim_not_settled", step=what, error=str(error))


def _in_flight(lease: timedelta) -> Problem:
    seconds = max(1, min(MAX_RETRY_AFTER, int(lease.total_seconds())))
    return Problem("in_flight", "the same request is still in progress", headers={"Retry-After": str(seconds)})


class CassandraClaimTable:
    """`ClaimTable` with Cassandra's lightweight transactions. The table's TTL removes rows after a day.

    The driver sends a statement again if a node hangs. If the first one was applied, the second finds this
    request's holder in the row. `insert` and `update` count that as success.
    """

    def __init__(self, index: CassandraIndex) -> None:
        self._index = index

    async def insert(self, scope: str, row: ClaimRow) -> ClaimRow | None:
        """See ClaimTable.insert."""
        columns = _columns(row)
        marks = ", ".join("?" * (len(columns) + 1))
        cql = f"INSERT INTO idempotency_keys (scope, {', '.join(columns)}) VALUES ({marks}) IF NOT EXISTS"
        [result] = await self._index.execute(cql, [scope, *columns.values()])
        return None if result.applied or result.holder == row.holder else _row(result)

    async def update(self, scope: str, row: ClaimRow, holder: UUID) -> bool:
        """See ClaimTable.update."""
        columns = _columns(row)
        # Every column is written, so that all of them expire at the same time.
        assignments = ", ".join(f"{name} = ?" for name in columns)
        cql = f"UPDATE idempotency_keys SET {assignments} WHERE scope = ? IF holder = ?"
        [result] = await self._index.execute(cql, [*columns.values(), scope, holder])
        # If there is no row, the result has no column `holder`.
        return bool(result.applied) or getattr(result, "holder", None) == row.holder

    async def delete(self, scope: str, holder: UUID) -> None:
        """See ClaimTable.delete."""
        cql = "DELETE FROM idempotency_keys WHERE scope = ? IF holder = ?"
        await self._index.execute(cql, [scope, holder])


def _columns(row: ClaimRow) -> dict[str, Any]:
    columns: dict[str, Any] = {
        "fingerprint": row.fingerprint,
        "image_ids": [ids.image_id for ids in row.ids],
        "revisions": [ids.revision for ids in row.ids],
        "lease_until": row.lease_until,
        "holder": row.holder,
    }
    if row.reply is not None:
        columns |= {"status": row.reply.status, "response": row.reply.encode()}
    return columns


def _row(found: Any) -> ClaimRow:
    return ClaimRow(
        fingerprint=found.fingerprint,
        ids=tuple(map(Ids, found.image_ids or (), found.revisions or ())),
        lease_until=found.lease_until.replace(tzinfo=UTC),
        holder=found.holder,
        reply=Reply.decode(found.status, found.response) if found.status is not None else None,
    )
