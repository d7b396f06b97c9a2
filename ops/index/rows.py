"""Reads rows of the index with their write timestamps: all rows of a table, or the rows of one image."""

import asyncio
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

from cassandra.cluster import Session
from cassandra.query import SimpleStatement
from pydantic import ValidationError

from ops.log.fold import ImageState, pack, unpack
from shared.cassandra.column_groups import GROUPS, SELECTED, WRITE_TIMES, parsed, stored_text, write_time
from shared.cassandra.cql import conditions
from shared.cassandra.deployment import live_keyspace
from shared.cassandra.session import connect, engine_errors
from shared.contract.keys import Owner, is_image_id
from shared.read_model.tables import (
    BY_DAY,
    IMAGE_TABLES,
    PRIMARY_KEYS,
    RowWriter,
    Write,
    image_key,
)
from shared.settings import Settings

PAGE = 1000
"""Rows in one page, about 3 MB."""
Place = tuple[str, tuple[Any, ...]]
"""A table and a primary key."""
UNREADABLE = b""
"""Stands for an invalid value in a row. It differs from every value of the log."""
_COLUMNS = (
    f"image_id, owner_type, owner_id, uploaded_at, image_version, {SELECTED}, {WRITE_TIMES},"
    " WRITETIME(image_version) AS image_version_at"
)


@dataclass(frozen=True)
class StoredRow:
    """One row. `cells` maps column groups to (timestamp, packed value). Column groups that are null are left out."""

    table: str
    key: tuple[Any, ...]
    image_id: UUID
    owner: Owner
    uploaded_at: datetime | None
    cells: Mapping[str, tuple[int, Any]]


def key_in(table: str, image_id: UUID, owner: Owner, shards: int) -> tuple[Any, ...]:
    """Primary key of an image's row in this table."""
    return tuple(image_key(table, image_id, owner, shards).values())


def state_writes(state: ImageState, shards: int, tables: Sequence[str] = IMAGE_TABLES) -> list[Write]:
    """Writes that set an image's rows to its folded state. Columns with the same version are in one write.

    For a deleted image the deletion is written even if there is no row: an answer that is applied later then has no
    effect.
    """
    rows = RowWriter(state.image_id, state.owner, shards, tables)
    cells = [(cell.version, {name: unpack(name, cell.values[0])}) for name, cell in state.live().items()]
    deletes = rows.deletes(state.deleted) if state.deleted >= 0 else []
    return [*deletes, *rows.updates(state.value("image_version"), cells)]


class Rows:
    """Reads rows of one keyspace. Blocking calls of the driver run in threads. The methods raise Unavailable."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self._by_key = {
            table: session.prepare(f"SELECT {_columns(table)} FROM {table} WHERE {conditions(PRIMARY_KEYS[table])}")
            for table in IMAGE_TABLES
        }

    @classmethod
    async def open(cls, settings: Settings, keyspace: str | None = None) -> "Rows":
        """Connect to a keyspace, by default the live one. Raises ConfigurationError if it does not exist."""
        return await asyncio.to_thread(cls._open, settings, keyspace)

    @classmethod
    def _open(cls, settings: Settings, keyspace: str | None) -> "Rows":
        session = connect(settings, keyspace or settings.cassandra_keyspace)
        live = keyspace or live_keyspace(session, settings)
        if live != session.keyspace:
            session.set_keyspace(live)
        return cls(session)

    async def close(self) -> None:
        """Disconnect."""
        await asyncio.to_thread(self._session.cluster.shutdown)

    async def scan(self, table: str) -> AsyncIterator[Sequence[StoredRow]]:
        """All rows of a table, in pages. The next page is fetched while the caller handles the present one."""
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

    async def of_image(
        self, image_id: UUID, owner: Owner | None, shards: int, places: Iterable[Place] = ()
    ) -> list[StoredRow]:
        """The image's rows in all tables, and rows at other `places`.

        If `owner` is None, the owner is taken from the row in `images`.
        """
        return await asyncio.to_thread(self._of_image, image_id, owner, shards, set(places))

    def _of_image(self, image_id: UUID, owner: Owner | None, shards: int, places: set[Place]) -> list[StoredRow]:
        found: list[StoredRow] = []
        with engine_errors():
            # The table IMAGES is read first, because its row has the owner.
            for table, statement in self._by_key.items():
                known = owner or (found[0].owner if found else Owner.of_image(image_id))
                # A row that was written by hand can have an id that has no day: it stands at its place only.
                keys = {key_in(table, image_id, known, shards)} if is_image_id(image_id) else set()
                for key in keys | {key for name, key in places if name == table}:
                    found += [_stored(table, row) for row in self._session.execute(statement, key)]
        return found

    def _page(self, statement: SimpleStatement, state: bytes | None) -> tuple[list[Any], bytes | None]:
        with engine_errors():
            result = self._session.execute(statement, paging_state=state)
            return list(result.current_rows), result.paging_state


def _columns(table: str) -> str:
    return f"day, shard, {_COLUMNS}" if table == BY_DAY else _COLUMNS


def _stored(table: str, row: Any) -> StoredRow:
    cells = {} if row.image_version_at is None else {"image_version": (row.image_version_at, row.image_version)}
    cells |= {name: (written, _value(name, row)) for name in GROUPS if (written := write_time(name, row)) is not None}
    key = tuple(getattr(row, name) for name in PRIMARY_KEYS[table])
    if table == BY_DAY:
        key = (row.day.date(), row.shard, row.image_id)
    moment = row.uploaded_at and row.uploaded_at.replace(tzinfo=UTC)
    return StoredRow(table, key, row.image_id, _owner(row), moment, cells)


def _owner(row: Any) -> Owner:
    """The owner in the row; the image itself if the row has an invalid one."""
    try:
        return Owner(type=row.owner_type, id=row.owner_id)
    except ValidationError:
        return Owner.of_image(row.image_id)


def _value(name: str, row: Any) -> Any:
    try:
        return pack(parsed(name, stored_text(name, row)))
    except ValidationError:
        return UNREADABLE
