"""The gateway over the ports in memory, for unit tests of its routes."""

import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import cached_property
from typing import Any
from uuid import UUID

import httpx

from gateway.app import create_app
from gateway.container import Services
from gateway.services.claims import ClaimRow, Claims
from gateway.services.credentials import TemporaryKeys
from gateway.services.set_leases import LeaseRow, SetLeases
from gateway.services.succession import Successions
from shared.contract.events import Command
from shared.contract.keys import Owner
from shared.errors import Unavailable
from shared.ports import Appended
from shared.read_model.documents import ImageRow
from shared.read_model.tables import Write
from shared.settings import Settings
from tests.support.memory.ports import MemoryCommandLog, MemoryIndex, MemoryStore

BASE_URL = "https://images.example.org"


def memory_settings(**changes: Any) -> Settings:
    return Settings(_env_file=None, **{"public_base_url": BASE_URL, **changes})


@dataclass
class MemoryClaimTable:
    """`ClaimTable` in a dictionary."""

    rows: dict[str, ClaimRow] = field(default_factory=dict)

    async def insert(self, scope: str, row: ClaimRow) -> ClaimRow | None:
        found = self.rows.get(scope)
        if found is None:
            self.rows[scope] = row
        return found

    async def update(self, scope: str, row: ClaimRow, holder: UUID) -> bool:
        found = self.rows.get(scope)
        if found is None or found.holder != holder:
            return False
        self.rows[scope] = row
        return True

    async def delete(self, scope: str, holder: UUID) -> None:
        if scope in self.rows and self.rows[scope].holder == holder:
            del self.rows[scope]


@dataclass
class MemoryLeaseTable:
    """`LeaseTable` in a dictionary. `clock` gives seconds."""

    clock: Callable[[], float] = time.monotonic
    holders: dict[str, tuple[UUID, float]] = field(default_factory=dict)
    """The holder of each lease, and the time at which the lease ends."""
    unfenced: set[str] = field(default_factory=set)

    async def take(self, scope: str, holder: UUID, duration: timedelta) -> LeaseRow:
        if self._holder(scope) is None:
            self.holders[scope] = holder, self.clock() + duration.total_seconds()
        return LeaseRow(self._holder(scope), scope in self.unfenced)

    async def renew(self, scope: str, holder: UUID, duration: timedelta, *, unfenced: bool = False) -> bool:
        if self._holder(scope) != holder:
            return False
        self.holders[scope] = holder, self.clock() + duration.total_seconds()
        if unfenced:
            self.unfenced.add(scope)
        return True

    async def end(self, scope: str, holder: UUID, *, unfenced: bool) -> None:
        if self._holder(scope) == holder:
            del self.holders[scope]
            if not unfenced:
                self.unfenced.discard(scope)

    def _holder(self, scope: str) -> UUID | None:
        holder, ends = self.holders.get(scope, (None, 0.0))
        return holder if ends > self.clock() else None


@dataclass
class MemoryKeyIssuer:
    """`KeyIssuer` that remembers what it was asked for."""

    issued: list[tuple[Owner, timedelta]] = field(default_factory=list)

    async def issue(self, owner: Owner, duration: timedelta) -> TemporaryKeys:
        self.issued.append((owner, duration))
        return TemporaryKeys("id", "secret", "token", datetime.now(UTC) + duration)


class FailingIndex(MemoryIndex):
    """An index that fails while `unavailable` is set, and once in each method that `once` names."""

    unavailable = False

    def __init__(self) -> None:
        super().__init__()
        self.once: list[str] = []

    async def apply(self, writes: Sequence[Write]) -> None:
        if writes:
            self._check("apply")
        await super().apply(writes)

    async def image(self, image_id: UUID) -> ImageRow | None:
        self._check("image")
        return await super().image(image_id)

    async def cleared_before(self, owner: Owner) -> int:
        self._check("cleared_before")
        return await super().cleared_before(owner)

    async def of_owner(
        self, owner: Owner, *, below: UUID | None = None, above: UUID | None = None, limit: int = 50
    ) -> Sequence[ImageRow]:
        self._check("of_owner")
        return await super().of_owner(owner, below=below, above=above, limit=limit)

    def _check(self, method: str) -> None:
        if self.unavailable:
            raise Unavailable("cassandra", "unavailable")
        if method in self.once:
            self.once.remove(method)
            raise Unavailable("cassandra", "failed once")


class FailingStore(MemoryStore):
    """A store whose `put` fails while `unavailable` is set."""

    unavailable = False
    refused = 0

    async def put(self, key: str, data: bytes, content_type: str, *, if_absent: bool = False) -> str:
        if self.unavailable:
            self.refused += 1
            raise Unavailable("s3", "unavailable")
        return await super().put(key, data, content_type, if_absent=if_absent)


@dataclass
class FlakyLog(MemoryCommandLog):
    """A log that raises the next of `errors` instead of appending, and the next of `lost` after it has appended."""

    errors: list[Unavailable] = field(default_factory=list)
    lost: list[Unavailable] = field(default_factory=list)
    without_offset: bool = False

    async def append(self, command: Command, *, traceparent: str | None = None) -> Appended:
        if self.errors:
            raise self.errors.pop(0)
        appended = await super().append(command, traceparent=traceparent)
        if self.lost:
            raise self.lost.pop(0)
        return Appended(appended.partition, None) if self.without_offset else appended


@dataclass
class MemoryGateway:
    """A gateway whose engines a test can read."""

    settings: Settings = field(default_factory=memory_settings)
    store: FailingStore = field(default_factory=FailingStore)
    index: FailingIndex = field(default_factory=FailingIndex)
    log: FlakyLog = field(default_factory=FlakyLog)
    table: MemoryClaimTable = field(default_factory=MemoryClaimTable)
    leases: MemoryLeaseTable = field(default_factory=MemoryLeaseTable)
    keys: MemoryKeyIssuer | None = None

    @cached_property
    def services(self) -> Services:
        claims = Claims(self.table, self.settings.idempotency_lease)
        leases = SetLeases(self.leases, self.settings.set_lease)
        successions = Successions(self.table, self.settings.idempotency_lease)
        return Services(self.settings, self.store, self.index, self.log, claims, successions, leases, self.keys)

    @asynccontextmanager
    async def client(self) -> AsyncIterator[httpx.AsyncClient]:
        transport = httpx.ASGITransport(app=create_app(self.services))
        async with httpx.AsyncClient(transport=transport, base_url="http://gateway") as client:
            yield client
