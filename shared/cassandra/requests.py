"""Groups rows to requests. Rows that are written by one request cost the client and Cassandra less than one each."""

from collections import deque
from collections.abc import Iterable, Sequence
from typing import Any, Generic, TypeVar

from cassandra.query import BatchStatement, BatchType, BoundStatement

from shared.cassandra.cql import place_of
from shared.read_model.tables import BY_DAY, BY_OWNER, DAYS, Delete, Write

T = TypeVar("T")

MAX_ROWS = 32
MAX_BYTES = 32_000
"""Bytes of a batch of one partition, unless it has one row only. Cassandra applies it as one mutation."""
MAX_PARTITIONS = 8
"""Partitions of one batch. Cassandra logs a warning for more than ten."""
MAX_BYTES_OF_PARTITIONS = 4_000
"""Bytes of a batch of several partitions. Cassandra logs a warning above 5 KiB, and refuses 50 KiB."""
_CELL_BYTES = 24
"""What Cassandra adds to a value in the size of a batch: timestamp, time to live and path, rounded up."""
_CLUSTERED = {BY_OWNER, BY_DAY, DAYS}
"""Tables whose last column of the primary key orders the rows within a partition."""

PartitionKey = tuple[Any, ...]
"""A table and the values of its partition key."""
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


def partition_of(row: Row) -> PartitionKey:
    """The partition of a row."""
    place = place_of(row[0])
    return place[:-1] if row[0].table in _CLUSTERED else place


class Backlog(Generic[T]):
    """Rows that wait for a request, by partition."""

    def __init__(self) -> None:
        self._rows: dict[PartitionKey, deque[tuple[T, int]]] = {}
        """Rows with their bytes. The partition that has waited longest is the first one."""

    def add(self, partition: PartitionKey, row: T, size: int) -> None:
        """Add a row with so many bytes."""
        self._rows.setdefault(partition, deque()).append((row, size))

    def take(self) -> list[T]:
        """Remove and return the rows of the next request, within the bounds of a batch; empty if none waits.

        These are rows of the first partition, and small rows of the next ones if they fit beside them.
        """
        taken: list[T] = []
        total, bound = 0, MAX_BYTES
        for _ in range(min(MAX_PARTITIONS, len(self._rows))):
            partition, rows = next(iter(self._rows.items()))
            if taken and (len(taken) == MAX_ROWS or total + rows[0][1] > bound):
                break
            del self._rows[partition]
            while rows and len(taken) < MAX_ROWS and (not taken or total + rows[0][1] <= bound):
                row, size = rows.popleft()
                taken.append(row)
                total += size
            if rows:
                self._rows[partition] = rows
                break
            bound = MAX_BYTES_OF_PARTITIONS
        return taken


def batch_of(statements: Iterable[BoundStatement]) -> BatchStatement:
    """A batch that may be sent again. The statements of one row become one mutation: no reader sees only some."""
    batch = BatchStatement(BatchType.UNLOGGED)
    for statement in statements:
        batch.add(statement)
    batch.is_idempotent = True
    return batch
