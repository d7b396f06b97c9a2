"""Computes the positions to commit. A position is never above a record that is not settled (invariant 4)."""

from collections.abc import Mapping

from shared.consuming.offsets import ContiguousOffsets
from shared.errors import ImagepipeError


class OffsetsMissing(ImagepipeError):  # noqa: N818 - a state, not a mistake
    """The consumer skipped offsets of a partition during one assignment."""


class Acks:
    """Positions of the partitions of one assignment. Create a new object for each assignment. Pure; not thread-safe."""

    def __init__(self) -> None:
        self._offsets: dict[int, ContiguousOffsets] = {}
        self._first: dict[int, int] = {}
        self._next: dict[int, int] = {}
        self._positions: dict[int, int] = {}
        self._committed: dict[int, int] = {}

    def start(self, partition: int, offset: int) -> bool:
        """Note that a record was read. Returns False if this assignment has read it before, as after a seek.

        Raises OffsetsMissing if the consumer skipped an offset. The commands topic is neither compacted nor written in
        transactions, so only retention leaves gaps, and these lie before the first record. A skipped offset would
        therefore be a lost record. The process then ends, and reads again from the committed position.
        """
        expected = self._next.get(partition, offset)
        first = self._first.setdefault(partition, offset)
        if first <= offset < expected:
            return False
        if offset != expected:
            raise OffsetsMissing(f"partition {partition}: the consumer read offset {offset}, but {expected} was next")
        self._offsets.setdefault(partition, ContiguousOffsets()).start(offset)
        self._next[partition] = offset + 1
        return True

    def settle(self, partition: int, offset: int) -> None:
        """Settle a record: its answer is published, or it is in the DLQ. Raises ValueError if it is not in progress."""
        position = self._offsets[partition].settle(offset)
        if position is not None:
            self._positions[partition] = position

    def restart(self, partition: int) -> int | None:
        """The offset from which a restarted process would read. None if no record was read.

        It is the committed position, or the offset of the first record that was read if there is none. It is not the
        settled position: with that, a process whose commits fail would seem to have no lag.
        """
        return self._committed.get(partition, self._first.get(partition))

    def committable(self) -> dict[int, int]:
        """Maps each partition with new settled records to its position to commit (the next offset to read)."""
        return {
            partition: position
            for partition, position in self._positions.items()
            if position > self._committed.get(partition, -1)
        }

    def committed(self, positions: Mapping[int, int]) -> None:
        """Note that Kafka has committed these positions."""
        self._committed.update(positions)

    @property
    def pending(self) -> int:
        """Number of records that cannot be committed yet, plus the number of partitions with a position to commit."""
        return sum(offsets.pending for offsets in self._offsets.values()) + len(self.committable())
