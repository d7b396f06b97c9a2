"""Of the requests that update one version of an image on condition (`If-Match`), at most one succeeds.

1. Claim. Before its command is appended, the request claims the version that it updates, by one lightweight
   transaction. The claim names the request's update: the revision of a replacement, or the deletion.
2. If another update has claimed the version: once that one is done, this request is refused with 412. While that one
   runs, this request waits for a moment, and then gets 409.
3. Done. The claim of an update that is in the log stays for a day. Until then the image's row has another version. If
   another update has taken the claim over in the meantime, this one is not acknowledged.
4. Failed. The claim of a request that was refused is removed. After another error the command may be in the log, so the
   claim keeps its lease: until that ends, only the same update can be tried again.

Requests without the condition make no claim, so that they cost no lightweight transaction (ADR 16).
"""

import asyncio
import hashlib
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from uuid import UUID, uuid4

import structlog

from gateway.http.problems import Problem
from gateway.services.claims import ClaimRow, ClaimTable, Reply
from shared.errors import Unavailable

log = structlog.get_logger()

PAUSES = (0.05, 0.1, 0.2, 0.4, 0.8)
"""Seconds between two tries to claim a version whose claim is held by a running request."""
LONGEST_LEASE = timedelta(minutes=10)
"""A lease that ends later, and later than one of this gateway would, is from a clock that was ahead. Leases of other
gateways may be longer than those of this one, while the setting is changed: with such a lease as the limit two updates
of one version were both acknowledged."""
DONE = Reply(204, None, {})
"""Marks the claim of an update that is in the log. No client gets this reply."""
RETRY_AFTER = {"Retry-After": "1"}


class Successions:
    """Claims versions by the rules above. It uses the table of claims, under scopes of its own."""

    def __init__(
        self, table: ClaimTable, lease: timedelta, clock: Callable[[], datetime] = lambda: datetime.now(UTC)
    ) -> None:
        self._table = table
        self._lease = lease
        self._clock = clock

    @asynccontextmanager
    async def claim(self, image_id: UUID, version: str, update: str) -> AsyncIterator[None]:
        """Append the command of this update of this version within the block.

        Raises Problem `precondition_failed` and `in_flight`, Unavailable, and what the block raises. After Unavailable
        the outcome is unknown.
        """
        scope = hashlib.sha256(json.dumps(["if-match", str(image_id), version]).encode()).hexdigest()
        row = await self._take(scope, update)
        try:
            yield
        except Problem:
            await self._table.delete(scope, row.holder)
            raise
        await self._settle(scope, row)

    async def _settle(self, scope: str, row: ClaimRow) -> None:
        """Mark the claim as done. Raises Unavailable if it is another update's by now."""
        done = replace(row, reply=DONE)
        try:
            if await self._table.update(scope, done, row.holder):
                return
            # There is no claim if the other update was refused.
            found = await self._table.insert(scope, done)
        except Unavailable as error:
            log.warning("claim_not_settled", step="complete", error=str(error))
            return
        if found is not None and found.fingerprint != row.fingerprint:
            raise Unavailable("cassandra", "another update of this version has begun, because this one took too long")

    async def _take(self, scope: str, update: str) -> ClaimRow:
        for pause in (*PAUSES, None):
            now = self._clock()
            mine = ClaimRow(update, (), now + self._lease, uuid4())
            found = await self._table.insert(scope, mine)
            if found is None:
                return mine
            if found.fingerprint != update and found.reply is not None:
                raise Problem("precondition_failed", "another request has updated this version of the image")
            runs = now < found.lease_until <= now + max(self._lease, LONGEST_LEASE)
            if (found.fingerprint == update or not runs) and await self._table.update(scope, mine, found.holder):
                return mine
            if pause is not None:
                await asyncio.sleep(pause)
        detail = "another request updates this version of the image, or has ended without a known outcome"
        raise Problem("in_flight", detail, headers=RETRY_AFTER)
