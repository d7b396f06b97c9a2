"""Which position of each partition may be committed: never one above a record that is not settled (invariant 4)."""

from collections.abc import Mapping

from shared.consuming.offsets import ContiguousOffsets
from shared.errors import ImagepipeError


class OffsetsMissing(ImagepipeError):  # noqa: N818 - a state, not a mistake
    """The consumer jumped over offsets within one assignment of a partition."""


class Acks:
    """Positions of one assignment of partitions. Make a new one for each assignment. Pure; not thread-safe."""

    def __init__(self) -> None:
        self._offsets: dict[int, ContiguousOffsets] = {}
        self._first: dict[int, int] = {}
        self._next: dict[int, int] = {}
        self._positions: dict[int, int] = {}
        self._committed: dict[int, int] = {}

    def start(self, partition: int, offset: int) -> bool:
        """A record was read; False where it was read before in this assignment, which happens after a seek.

        Raises OffsetsMissing where lower offsets of the assignment were not read. Commands are neither compacted nor
        written in transactions, so there are no gaps but those of retention, and one of the consumer's would be a
        lost record. Whoever catches it starts over from the committed position.
        """
        expected = self._next.get(partition, offset)
        first = self._first.setdefault(partition, offset)
        if first <= offset < expected:
            return False
        if offset != expected:
            raise OffsetsMissing(f"partition {partition}: read offset {offset} where {expected} was next")
        self._offsets.setdefault(partition, ContiguousOffsets()).start(offset)
        self._next[partition] = offset + 1
        return True

    def settle(self, partition: int, offset: int) -> None:
        """The record is answered, or in the DLQ: it need not come again. Raises ValueError if it is not under way."""
        position = self._offsets[partition].settle(offset)
        if position is not None:
            self._positions[partition] = position

    def restart(self, partition: int) -> int | None:
        """Where a restart would read on: the committed position, else the first record read; None before any record.

        Not what is settled: a process whose commits fail would seem to have nothing to do.
        """
        return self._committed.get(partition, self._first.get(partition))

    def committable(self) -> dict[int, int]:
        """Partition to position (the next offset to read), where it is higher than what was committed."""
        return {
            partition: position
            for partition, position in self._positions.items()
            if position > self._committed.get(partition, -1)
        }

    def committed(self, positions: Mapping[int, int]) -> None:
        """These positions are in Kafka."""
        self._committed.update(positions)

    @property
    def pending(self) -> int:
        """How many records were read and cannot be committed yet, and how many could be but are not."""
        return sum(offsets.pending for offsets in self._offsets.values()) + len(self.committable())
