"""Rows of the index with the timestamps they were written at, by whole tables or by image."""

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from cassandra import DriverException, RequestExecutionException
from cassandra.cluster import NoHostAvailable, Session
from cassandra.query import SimpleStatement

from ops.fold import GROUPS, pack
from shared.cassandra import connect
from shared.errors import Unavailable
from shared.events import Current, Request
from shared.keys import Owner, day_of, shard_of
from shared.settings import Settings
from shared.tables import BY_DAY, BY_OWNER, IMAGES, PRIMARY_KEYS, Outcome

IMAGE_TABLES = (IMAGES, BY_OWNER, BY_DAY)
PAGE = 1000
"""Rows held at a time: about 3 MB."""
ERRORS = (DriverException, RequestExecutionException, NoHostAvailable, OSError)
_MODELS: Mapping[str, type[Request] | type[Current]] = {"request": Request, "current": Current}
_COLUMNS = "image_id, owner_type, owner_id, uploaded_at, " + ", ".join(
    f"{name}, WRITETIME({name}) AS {name}_at" for name in GROUPS
)


@dataclass(frozen=True)
class StoredRow:
    """One row. `cells` maps column groups to (timestamp, packed value); absent ones are null."""

    table: str
    key: tuple[Any, ...]
    image_id: UUID
    owner: Owner
    uploaded_at: Any
    cells: Mapping[str, tuple[int, Any]]


def key_in(table: str, image_id: UUID, owner: Owner, shards: int) -> tuple[Any, ...]:
    """Primary key of an image's row in a table."""
    if table == IMAGES:
        return (image_id,)
    if table == BY_OWNER:
        return (owner.type, owner.id, image_id)
    return (day_of(image_id), shard_of(image_id, shards), image_id)


class Rows:
    """Reads rows of one keyspace; blocking calls of the driver run in a thread. Methods raise Unavailable."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self._by_key = {
            table: session.prepare(
                f"SELECT {_columns(table)} FROM {table} WHERE "
                + " AND ".join(f"{name} = ?" for name in PRIMARY_KEYS[table])
            )
            for table in IMAGE_TABLES
        }

    @classmethod
    async def open(cls, settings: Settings, keyspace: str | None = None) -> "Rows":
        """Connect to a keyspace, by default the settings'."""
        session = await asyncio.to_thread(connect, settings, keyspace or settings.cassandra_keyspace)
        return await asyncio.to_thread(cls, session)

    async def close(self) -> None:
        """Disconnect."""
        await asyncio.to_thread(self._session.cluster.shutdown)

    async def scan(self, table: str) -> AsyncIterator[Sequence[StoredRow]]:
        """The whole table in pages, the next one fetched while one is worked on."""
        statement = SimpleStatement(f"SELECT {_columns(table)} FROM {table}", fetch_size=PAGE)
        following = asyncio.create_task(asyncio.to_thread(self._page, statement, None))
        try:
            while True:
                found, state = await following
                if state is not None:
                    following = asyncio.create_task(asyncio.to_thread(self._page, statement, state))
                yield [_stored(table, row) for row in found]
                if state is None:
                    return
        finally:
            following.cancel()

    async def of_image(self, image_id: UUID, owner: Owner | None, shards: int) -> list[StoredRow]:
        """The image's rows in all tables. Without an owner: that of the row in `images`, if there is one."""
        return await asyncio.to_thread(self._of_image, image_id, owner, shards)

    def _of_image(self, image_id: UUID, owner: Owner | None, shards: int) -> list[StoredRow]:
        found: list[StoredRow] = []
        try:
            # IMAGES comes first, and tells the owner.
            for table, statement in self._by_key.items():
                known = owner or (found[0].owner if found else Owner.of_image(image_id))
                rows = self._session.execute(statement, key_in(table, image_id, known, shards))
                found += [_stored(table, row) for row in rows]
        except ERRORS as error:
            raise Unavailable("cassandra", f"{type(error).__name__}: {error}") from error
        return found

    def _page(self, statement: SimpleStatement, state: bytes | None) -> tuple[list[Any], bytes | None]:
        try:
            result = self._session.execute(statement, paging_state=state)
            return list(result.current_rows), result.paging_state
        except ERRORS as error:
            raise Unavailable("cassandra", f"{type(error).__name__}: {error}") from error


def _columns(table: str) -> str:
    return f"day, shard, {_COLUMNS}" if table == BY_DAY else _COLUMNS


def _stored(table: str, row: Any) -> StoredRow:
    cells = {}
    for name in GROUPS:
        value = getattr(row, name)
        if value is not None:
            cells[name] = (getattr(row, f"{name}_at"), _value(name, value))
    key = tuple(getattr(row, name) for name in PRIMARY_KEYS[table])
    if table == BY_DAY:
        key = (row.day.date(), row.shard, row.image_id)
    owner = (
        Owner(type=row.owner_type, id=row.owner_id) if row.owner_type and row.owner_id else Owner.of_image(row.image_id)
    )
    return StoredRow(table, key, row.image_id, owner, row.uploaded_at, cells)


def _value(name: str, value: Any) -> Any:
    if name == "outcome":
        return Outcome(*value)
    model = _MODELS.get(name)
    return pack(model.model_validate(value, from_attributes=True)) if model else value
