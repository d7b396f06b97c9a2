"""CQL of the index: converts writes to statements, and result rows to `ImageRow`. Pure functions."""

from collections.abc import Iterable
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any

from shared.cassandra.column_groups import GROUPS, SELECTED, Texts, parsed, stored_text
from shared.contract.keys import DayShard, Owner, Partition
from shared.read_model.documents import ImageRow
from shared.read_model.tables import BY_DAY, BY_OWNER, PRIMARY_KEYS, Delete, Insert, Update, Write

COLUMNS = f"image_id, owner_type, owner_id, uploaded_at, image_version, {SELECTED}"
"""Columns that `image_row` reads."""
REMEMBERED = 512
"""Rows whose conversion is kept, 12 kB each with their texts. When a list has changed, most of its rows have not."""


def place_of(write: Write) -> tuple[Any, ...]:
    """Identity of the row that is written: its table and its primary key."""
    columns = write.columns if isinstance(write, Insert) else write.key
    return (write.table, *(columns[name] for name in PRIMARY_KEYS[write.table]))


def statement_of(write: Write, texts: Texts) -> tuple[str, list[Any]]:
    """CQL of a write, and the values to bind. A statement names only the columns that it writes."""
    match write:
        case Insert(table, columns, version):
            names = ", ".join(columns)
            marks = ", ".join("?" * len(columns))
            cql = f"INSERT INTO {table} ({names}) VALUES ({marks}) USING TIMESTAMP ?"
            return cql, [*columns.values(), version]
        case Update(table, key, columns, version):
            stored = texts.columns(columns)
            sets = ", ".join(f"{name} = ?" for name in stored)
            cql = f"UPDATE {table} USING TIMESTAMP ? SET {sets} WHERE {conditions(key)}"
            return cql, [version, *stored.values(), *key.values()]
        case Delete(table, key, version):
            return f"DELETE FROM {table} USING TIMESTAMP ? WHERE {conditions(key)}", [version, *key.values()]


def conditions(names: Iterable[str]) -> str:
    """CQL condition that compares each of these columns with a bound value."""
    return " AND ".join(f"{name} = ?" for name in names)


def partition_clause(partition: Partition) -> tuple[str, list[Any]]:
    """Start of a query on one partition: its table with the WHERE condition, and the values to bind."""
    if isinstance(partition, DayShard):
        table, values = BY_DAY, [*partition]
    else:
        table, values = BY_OWNER, [partition.type, partition.id]
    # The last column of each primary key is the image's id. It orders the rows within a partition.
    return f"{table} WHERE {conditions(PRIMARY_KEYS[table][:-1])}", values


def is_image(row: Any) -> bool:
    """Whether a result row that has `image_version` is an image. Otherwise it is a ghost."""
    return row.image_version is not None


@lru_cache(REMEMBERED)
def image_row(row: Any) -> ImageRow:
    """Convert a result row that has COLUMNS and is an image."""
    uploaded_at: datetime = row.uploaded_at
    return ImageRow(
        image_id=row.image_id,
        owner=_owner(row.owner_type, row.owner_id),
        uploaded_at=uploaded_at.replace(tzinfo=UTC),
        image_version=row.image_version,
        **{name: parsed(name, stored_text(name, row)) for name in GROUPS},
    )


@lru_cache(REMEMBERED)
def _owner(kind: str, owner_id: str) -> Owner:
    return Owner(type=kind, id=owner_id)
