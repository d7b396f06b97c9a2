"""Claims that make a request take effect once: by Idempotency-Key, or by the ETag of an ingested object.

1. Claim: one lightweight transaction writes ids, fingerprint, holder and lease. The ids are those of every later try.
2. Who finds a claim: another fingerprint is refused; an answer is given again; a running lease is a conflict; a lease
   that has ended is taken over, with the same ids.
3. Complete: the answer is stored for the rest of the day. Without it a retry does the same work under the same ids,
   which changes nothing but a second record in the log.
"""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any, Protocol
from uuid import UUID, uuid4

import structlog

from gateway.http.problems import Problem
from gateway.ids import Ids
from shared.cassandra.index import CassandraIndex
from shared.errors import Unavailable

log = structlog.get_logger()

MAX_RETRY_AFTER = 2
"""Seconds. A request that is alive takes less; one whose gateway died holds its lease to the end anyway."""


@dataclass(frozen=True)
class Reply:
    """An answer that can be stored: status, headers, JSON body."""

    status: int
    body: Any
    headers: dict[str, str]

    def encode(self) -> bytes:
        """Headers and body as stored."""
        return json.dumps({"headers": self.headers, "body": self.body}).encode()

    @classmethod
    def decode(cls, status: int, stored: bytes) -> "Reply":
        """The reply that encode() wrote."""
        found = json.loads(stored)
        return cls(status, found["body"], found["headers"])


@dataclass(frozen=True)
class ClaimRow:
    """A row of `idempotency_keys`; `reply` once the request has been answered."""

    fingerprint: str
    ids: tuple[Ids, ...]
    lease_until: datetime
    holder: UUID
    reply: Reply | None = None


class ClaimTable(Protocol):
    """Compare-and-set on the claims. Every method raises Unavailable."""

    async def insert(self, scope: str, row: ClaimRow) -> ClaimRow | None:
        """Insert where there is none; returns the row that is there otherwise."""

    async def update(self, scope: str, row: ClaimRow, holder: UUID) -> bool:
        """Replace the row if this holder has it."""

    async def delete(self, scope: str, holder: UUID) -> None:
        """Remove the row if this holder has it."""


@dataclass(frozen=True)
class Claim:
    """A claim that this request holds."""

    scope: str
    row: ClaimRow


class Claims:
    """The rules above, over a table."""

    def __init__(
        self, table: ClaimTable, lease: timedelta, clock: Callable[[], datetime] = lambda: datetime.now(UTC)
    ) -> None:
        self._table = table
        self._lease = lease
        self._clock = clock

    async def claim(self, scope: str, fingerprint: str, ids: Sequence[Ids]) -> Claim | Reply:
        """The claim, with these ids or those of an earlier try; or the reply that the request has had.

        Raises Problem `key_reused` and `in_flight`, and Unavailable.
        """
        now = self._clock()
        mine = ClaimRow(fingerprint, tuple(ids), now + self._lease, uuid4())
        found = await self._table.insert(scope, mine)
        if found is None:
            return Claim(scope, mine)
        if found.fingerprint != fingerprint:
            raise Problem("key_reused", "the key was used with other fields or files")
        if found.reply is not None:
            return found.reply
        if found.lease_until > now:
            raise _in_flight(found.lease_until - now)
        taken = replace(mine, ids=found.ids)
        if not await self._table.update(scope, taken, found.holder):
            raise _in_flight(self._lease)
        return Claim(scope, taken)

    async def complete(self, claim: Claim, reply: Reply) -> None:
        """Store the reply. Best effort: the work is done and is the same when done again."""
        await self._settle(
            "complete", self._table.update(claim.scope, replace(claim.row, reply=reply), claim.row.holder)
        )

    async def release(self, claim: Claim) -> None:
        """End the lease, so that the next try takes over at once. For failures whose work may be half done."""
        ended = replace(claim.row, lease_until=self._clock())
        await self._settle("release", self._table.update(claim.scope, ended, claim.row.holder))

    async def forget(self, claim: Claim) -> None:
        """Free the key. For requests that were refused before they changed anything."""
        await self._settle("forget", self._table.delete(claim.scope, claim.row.holder))

    async def _settle(self, what: str, writing: Any) -> None:
        try:
            await writing
        except Unavailable as error:
            log.warning("claim_not_settled", step=what, error=str(error))


def _in_flight(lease: timedelta) -> Problem:
    seconds = max(1, min(MAX_RETRY_AFTER, int(lease.total_seconds())))
    return Problem("in_flight", "the same request is being handled", headers={"Retry-After": str(seconds)})


class CassandraClaimTable:
    """`ClaimTable` on Cassandra's lightweight transactions. Rows go after a day, by the table's TTL.

    The driver sends a statement again when a node hangs. Each of ours says the same then: the second one finds its own
    holder, and that is how the first is known to have been applied.
    """

    def __init__(self, index: CassandraIndex) -> None:
        self._index = index

    async def insert(self, scope: str, row: ClaimRow) -> ClaimRow | None:
        """See ClaimTable.insert."""
        columns = _columns(row)
        marks = ", ".join("?" * (len(columns) + 1))
        cql = f"INSERT INTO idempotency_keys (scope, {', '.join(columns)}) VALUES ({marks}) IF NOT EXISTS"
        [answer] = await self._index.execute(cql, [scope, *columns.values()])
        return None if answer.applied or answer.holder == row.holder else _row(answer)

    async def update(self, scope: str, row: ClaimRow, holder: UUID) -> bool:
        """See ClaimTable.update."""
        columns = _columns(row)
        # Every column is written, so that all of them expire together.
        assignments = ", ".join(f"{name} = ?" for name in columns)
        cql = f"UPDATE idempotency_keys SET {assignments} WHERE scope = ? IF holder = ?"
        [answer] = await self._index.execute(cql, [*columns.values(), scope, holder])
        # Where there is no row, the answer has no holder either.
        return bool(answer.applied) or getattr(answer, "holder", None) == row.holder

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
