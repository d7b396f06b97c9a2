"""The ports in memory, for unit tests of pure logic. They pass the same contract tests as the adapters."""

import hashlib
from bisect import bisect_left, bisect_right
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from dataclasses import asdict, dataclass, field, is_dataclass
from datetime import UTC, date, datetime
from typing import Any
from uuid import UUID

from pydantic import BaseModel

from shared.contract.events import Command, Event
from shared.contract.headers import Headers
from shared.contract.keys import DayShard, Owner, Partition
from shared.errors import NotFound, PreconditionFailed, RequestRefused
from shared.ports import LIST_PAGE, Appended, DayIds, ObjectInfo, ObjectRange
from shared.read_model.documents import ImageRow
from shared.read_model.tables import BY_DAY, BY_OWNER, DAYS, FENCES, IMAGES, PRIMARY_KEYS, Delete, Insert, Write

CHUNK = 64 * 1024
MAX_KEY = 1024


@dataclass(frozen=True)
class _Object:
    data: bytes
    content_type: str
    modified: datetime

    @property
    def etag(self) -> str:
        return hashlib.md5(self.data, usedforsecurity=False).hexdigest()


class MemoryStore:
    """`ObjectStore` in a dictionary."""

    def __init__(self) -> None:
        self.objects: dict[str, _Object] = {}

    async def put(self, key: str, data: bytes, content_type: str, *, if_absent: bool = False) -> str:
        if if_absent and key in self.objects:
            raise PreconditionFailed(key)
        _check(key)
        self.objects[key] = _Object(data, content_type, datetime.now(UTC).replace(microsecond=0))
        return self.objects[key].etag

    async def get(self, key: str) -> bytes:
        return self._object(key).data

    async def head(self, key: str) -> ObjectInfo:
        return self._info(key)

    async def open(self, key: str, start: int = 0, end: int | None = None) -> ObjectRange:
        data = self._object(key).data[start : None if end is None else end + 1]
        return ObjectRange(self._info(key), start, start + len(data) - 1, _chunks(data))

    async def copy(self, source: str, target: str, content_type: str, *, if_etag: str) -> None:
        found = self._object(source)
        if found.etag != if_etag:
            raise PreconditionFailed(source)
        await self.put(target, found.data, content_type)

    async def page(
        self, prefix: str, token: str | None = None, *, after: str = "", limit: int = LIST_PAGE
    ) -> tuple[Sequence[ObjectInfo], str | None]:
        """The token is the last key of the page before."""
        keys = sorted(self.objects)
        first = max(bisect_left(keys, prefix), bisect_right(keys, token or after))
        found = [key for key in keys[first : first + limit + 1] if key.startswith(prefix)]
        page = [self._info(key) for key in found[:limit]]
        return page, page[-1].key if len(found) > limit else None

    async def list(self, prefix: str) -> Sequence[ObjectInfo]:
        return [self._info(key) for key in sorted(self.objects) if key.startswith(prefix)]

    async def delete(self, keys: Iterable[str]) -> None:
        for key in keys:
            self.objects.pop(key, None)

    def _object(self, key: str) -> _Object:
        _check(key)
        if key not in self.objects:
            raise NotFound(key)
        return self.objects[key]

    def _info(self, key: str) -> ObjectInfo:
        found = self._object(key)
        return ObjectInfo(key, len(found.data), found.etag, found.modified, found.content_type)


def _check(key: str) -> None:
    if len(key) > MAX_KEY or {"", ".", ".."} & set(key.split("/")):
        raise RequestRefused(key)


async def _chunks(data: bytes) -> AsyncIterator[bytes]:
    for start in range(0, len(data), CHUNK):
        yield data[start : start + CHUNK]


@dataclass
class MemoryCommandLog:
    """`CommandLog` as a list: offsets are positions in it (one partition)."""

    commands: list[Command] = field(default_factory=list)

    async def append(self, command: Command, *, traceparent: str | None = None) -> Appended:
        self.commands.append(command)
        return Appended(0, len(self.commands) - 1)


@dataclass
class MemoryEventLog:
    """`EventLog` as a list."""

    events: list[Event] = field(default_factory=list)

    async def publish(self, event: Event, *, traceparent: str | None = None) -> None:
        self.events.append(event)


@dataclass
class MemoryDeadLetters:
    """`DeadLetters` as a list of (key, value, headers)."""

    records: list[tuple[bytes | None, bytes | None, Headers]] = field(default_factory=list)

    async def send(self, key: bytes | None, value: bytes | None, headers: Headers) -> None:
        self.records.append((key, value, headers))


def rank(value: Any) -> str:
    """A total order over column values, for ties at one timestamp. Any total order will do."""
    if isinstance(value, BaseModel):
        return value.model_dump_json()
    return repr(asdict(value)) if is_dataclass(value) and not isinstance(value, type) else repr(value)


@dataclass
class _Cell:
    version: int
    value: Any


@dataclass
class _MemoryRow:
    """Cells of one row; `live_at` is its row marker; `deleted` shadows every write up to that version."""

    cells: dict[str, _Cell] = field(default_factory=dict)
    live_at: int = -1
    deleted: int = -1


class MemoryIndex:
    """`Index` with Cassandra's rules: per column the highest timestamp wins, ties by `tie_break`, deletions shadow."""

    def __init__(self, tie_break: Callable[[str, str], bool] = lambda new, old: new > old) -> None:
        self.tables: dict[str, dict[tuple[Any, ...], _MemoryRow]] = {name: {} for name in PRIMARY_KEYS}
        self._wins_tie = tie_break

    async def apply(self, writes: Sequence[Write]) -> None:
        for write in writes:
            self.apply_one(write)

    def apply_one(self, write: Write) -> None:
        names = PRIMARY_KEYS[write.table]
        source = write.columns if isinstance(write, Insert) else write.key
        key = tuple(source[name] for name in names)
        row = self.tables[write.table].setdefault(key, _MemoryRow())
        if isinstance(write, Delete):
            row.deleted = max(row.deleted, write.version)
            return
        if isinstance(write, Insert):
            row.live_at = max(row.live_at, write.version)
        for name, value in write.columns.items():
            if name not in names:
                self._set(row, name, value, write.version)

    def _set(self, row: _MemoryRow, name: str, value: Any, version: int) -> None:
        old = row.cells.get(name)
        if old is None or version > old.version or (version == old.version and self._wins(value, old.value)):
            row.cells[name] = _Cell(version, value)

    def _wins(self, value: Any, old: Any) -> bool:
        # A repeated write has the same value, and most ties are between repeated writes.
        return value is not old and self._wins_tie(rank(value), rank(old))

    def table(self, table: str) -> dict[tuple[Any, ...], dict[str, Any]]:
        """Live rows of a table, images and ghosts: primary key to columns."""
        found = {key: self.row(table, key) for key in self.tables[table]}
        return {key: row for key, row in found.items() if row is not None}

    def row(self, table: str, key: tuple[Any, ...]) -> dict[str, Any] | None:
        """One row, an image or a ghost; None if there is none."""
        row = self.tables[table].get(key, _MemoryRow())
        cells = {name: cell.value for name, cell in row.cells.items() if cell.version > row.deleted}
        if not cells and row.live_at <= row.deleted:
            return None
        return {**dict(zip(PRIMARY_KEYS[table], key, strict=True)), **cells}

    async def image(self, image_id: UUID) -> ImageRow | None:
        row = self.row(IMAGES, (image_id,))
        return _image_row(row) if row and is_image(row) else None

    async def cleared_before(self, owner: Owner) -> int:
        row = self.table(FENCES).get((owner.type, owner.id))
        return row["before"] if row else 0

    async def of_owner(
        self, owner: Owner, *, below: UUID | None = None, above: UUID | None = None, limit: int = 50
    ) -> Sequence[ImageRow]:
        return self._slice(BY_OWNER, (owner.type, owner.id), below, above, limit)

    async def ids(
        self, partition: Partition, *, below: UUID | None = None, above: UUID | None = None, limit: int = 50
    ) -> Sequence[UUID]:
        return [row.image_id for row in self._slice(*_place(partition), below, above, limit)]

    async def row_ids(self, owner: Owner, *, below: UUID | None = None, limit: int = 50) -> Sequence[UUID]:
        return [row["image_id"] for row in self._rows(*_place(owner), below, None)[:limit]]

    async def count(self, partition: Partition, *, below: UUID | None = None, above: UUID | None = None) -> int:
        return len(self._slice(*_place(partition), below, above, None))

    async def rows(self, partition: Partition, ids: Sequence[UUID]) -> Sequence[ImageRow]:
        wanted = set(ids)
        return [row for row in self._slice(*_place(partition), None, None, None) if row.image_id in wanted]

    async def ids_of_days(
        self, days: Sequence[date], shards: int, *, below: UUID | None = None, above: UUID | None = None, limit: int
    ) -> DayIds:
        places = [DayShard(day, shard) for day in days for shard in range(shards)]
        found = {place: self._rows(BY_DAY, tuple(place), below, above)[:limit] for place in places}
        return DayIds(
            {place: [row["image_id"] for row in rows if is_image(row)] for place, rows in found.items() if rows},
            {place for place, rows in found.items() if len(rows) == limit},
        )

    async def rows_of_days(self, days: Sequence[date], shards: int, ids: Sequence[UUID]) -> Sequence[ImageRow]:
        found = [await self.rows(DayShard(day, shard), ids) for day in days for shard in range(shards)]
        return [row for rows in found for row in rows]

    async def days(self) -> Sequence[date]:
        return sorted((row["day"] for row in self.table(DAYS).values()), reverse=True)

    def _slice(
        self, table: str, partition: tuple[Any, ...], below: UUID | None, above: UUID | None, limit: int | None
    ) -> Sequence[ImageRow]:
        images = [row for row in self._rows(table, partition, below, above) if is_image(row)]
        return [_image_row(row) for row in images[:limit]]

    def _rows(
        self, table: str, partition: tuple[Any, ...], below: UUID | None, above: UUID | None
    ) -> list[dict[str, Any]]:
        found = [
            row
            for key, row in self.table(table).items()
            if key[:-1] == partition and (below is None or key[-1] < below) and (above is None or key[-1] > above)
        ]
        return sorted(found, key=lambda row: row["image_id"], reverse=True)


def _place(partition: Partition) -> tuple[str, tuple[Any, ...]]:
    if isinstance(partition, Owner):
        return BY_OWNER, (partition.type, partition.id)
    return BY_DAY, tuple(partition)


def is_image(row: dict[str, Any]) -> bool:
    """Whether a row is an image. Otherwise it is a ghost."""
    return "image_version" in row


def _image_row(row: dict[str, Any]) -> ImageRow:
    return ImageRow(
        image_id=row["image_id"],
        owner=Owner(type=row["owner_type"], id=row["owner_id"]),
        uploaded_at=row["uploaded_at"],
        image_version=row["image_version"],
        request=row.get("request"),
        outcome=row.get("outcome"),
        current=row.get("current"),
    )
