"""What the index writes and reads, as CQL: writes to statements, result rows to `ImageRow`. Pure."""

from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Any, TypeVar

from pydantic import BaseModel

from shared.contract.events import Current, Request
from shared.contract.keys import DayShard, Owner, Partition
from shared.read_model.documents import ImageRow
from shared.read_model.tables import BY_DAY, BY_OWNER, PRIMARY_KEYS, Delete, Insert, Outcome, Write

M = TypeVar("M", bound=BaseModel)
COLUMNS = "image_id, owner_type, owner_id, uploaded_at, image_version, request, outcome, current"
"""What `image_row` needs."""


def place_of(write: Write) -> tuple[Any, ...]:
    """Table and primary key of the row that is written."""
    columns = write.columns if isinstance(write, Insert) else write.key
    return (write.table, *(columns[name] for name in PRIMARY_KEYS[write.table]))


def statement_of(write: Write) -> tuple[str, list[Any]]:
    """CQL and its values; columns that are not written are left out."""
    match write:
        case Insert(table, columns, version):
            names = ", ".join(columns)
            marks = ", ".join("?" * len(columns))
            cql = f"INSERT INTO {table} ({names}) VALUES ({marks}) USING TIMESTAMP ?"
            return cql, [*columns.values(), version]
        case Delete(table, key, version):
            return f"DELETE FROM {table} USING TIMESTAMP ? WHERE {conditions(key)}", [version, *key.values()]


def conditions(names: Iterable[str]) -> str:
    """The condition that these columns have the values that are bound."""
    return " AND ".join(f"{name} = ?" for name in names)


def partition_clause(partition: Partition) -> tuple[str, list[Any]]:
    """Table and condition that select one partition, and the condition's values."""
    if isinstance(partition, DayShard):
        table, values = BY_DAY, [*partition]
    else:
        table, values = BY_OWNER, [partition.type, partition.id]
    # The last column of each key is the image's id, by which the rows of a partition are ordered.
    return f"{table} WHERE {conditions(PRIMARY_KEYS[table][:-1])}", values


def image_row(row: Any) -> ImageRow:
    """One row of COLUMNS."""
    uploaded_at: datetime = row.uploaded_at
    return ImageRow(
        image_id=row.image_id,
        owner=Owner(type=row.owner_type, id=row.owner_id),
        uploaded_at=uploaded_at.replace(tzinfo=UTC),
        image_version=row.image_version,
        request=_model(Request, row.request),
        outcome=Outcome(*row.outcome) if row.outcome else None,
        current=_model(Current, row.current),
    )


def _model(model: type[M], value: Any) -> M | None:
    return model.model_validate(value, from_attributes=True) if value is not None else None
