"""The gateway over the ports in memory, for unit tests of its routes."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import httpx

from gateway.app import create_app
from gateway.claims import ClaimRow, Claims
from gateway.credentials import TemporaryKeys
from gateway.wiring import Services
from shared.keys import Owner
from shared.settings import Settings
from tests.memory import MemoryCommandLog, MemoryIndex, MemoryStore

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
class MemoryKeyIssuer:
    """`KeyIssuer` that remembers what it was asked for."""

    issued: list[tuple[Owner, timedelta]] = field(default_factory=list)

    async def issue(self, owner: Owner, duration: timedelta) -> TemporaryKeys:
        self.issued.append((owner, duration))
        return TemporaryKeys("id", "secret", "token", datetime.now(UTC) + duration)


@dataclass
class MemoryGateway:
    """A gateway whose engines a test can look into."""

    settings: Settings = field(default_factory=memory_settings)
    store: MemoryStore = field(default_factory=MemoryStore)
    index: MemoryIndex = field(default_factory=MemoryIndex)
    log: MemoryCommandLog = field(default_factory=MemoryCommandLog)
    table: MemoryClaimTable = field(default_factory=MemoryClaimTable)
    keys: MemoryKeyIssuer | None = None

    def services(self) -> Services:
        claims = Claims(self.table, self.settings.idempotency_lease)
        return Services(self.settings, self.store, self.index, self.log, claims, self.keys)

    @asynccontextmanager
    async def client(self) -> AsyncIterator[httpx.AsyncClient]:
        transport = httpx.ASGITransport(app=create_app(self.services()))
        async with httpx.AsyncClient(transport=transport, base_url="http://gateway") as client:
            yield client
