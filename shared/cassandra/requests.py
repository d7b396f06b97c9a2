"""Groups writes to requests. Rows that are written by one request cost the client and Cassandra less than one each."""

from collections.abc import Iterable, Iterator, Sequence
from typing import Any, TypeVar

from cassandra.query import BatchStatement, BatchType, BoundStatement

from shared.cassandra.cql import place_of
from shared.read_model.tables import BY_OWNER, Delete, Write

T = TypeVar("T")

MAX_ROWS = 8
"""Rows of one batch. Cassandra logs a warning for a batch with more than ten partitions."""
MAX_BYTES = 4_000
"""Bytes of one batch, unless it has one row only. Cassandra logs a warning above 5 KiB, and refuses 50 KiB."""
_CELL_BYTES = 24
"""What Cassandra adds to a value in the size of a batch: timestamp, time to live and path, rounded up."""

Row = Sequence[Write]
"""The writes to one row, each at its own timestamp."""


def steps(writes: Iterable[Write]) -> list[list[Row]]:
    """The writes by row, in steps: all rows of a step may be written at the same time.

    A gateway that clears an owner reads the owner's rows. If it finds none, no other table may show an image of the
    owner. So a deletion removes this row after the image's other rows.
    """
    rows: dict[tuple[Any, ...], list[Write]] = {}
    for write in writes:
        rows.setdefault(place_of(write), []).append(write)
    found = list(rows.values())
    return [[row for row in found if _is_last(row) is late] for late in (False, True)]


def _is_last(row: Row) -> bool:
    return any(isinstance(write, Delete) and write.table == BY_OWNER for write in row)


def size_of(bound: Iterable[BoundStatement]) -> int:
    """Bytes of these statements in a batch, as Cassandra counts them, or a little more."""
    values = [value for statement in bound for value in statement.values if isinstance(value, bytes)]
    return sum(map(len, values)) + _CELL_BYTES * len(values)


def packed(rows: Iterable[tuple[T, int]]) -> Iterator[list[T]]:
    """Group rows, each with its bytes, in order, within the bounds of a batch. A larger row is a group of its own."""
    group: list[T] = []
    total = 0
    for row, size in rows:
        if group and (len(group) == MAX_ROWS or total + size > MAX_BYTES):
            yield group
            group, total = [], 0
        group.append(row)
        total += size
    if group:
        yield group


def batch_of(statements: Iterable[BoundStatement]) -> BatchStatement:
    """A batch that may be sent again. The statements of one row become one mutation: no reader sees only some."""
    batch = BatchStatement(BatchType.UNLOGGED)
    for statement in statements:
        batch.add(statement)
    batch.is_idempotent = True
    return batch
