"""Computes which position of a partition may be committed when records settle out of order (invariant 4)."""

from collections import deque


class ContiguousOffsets:
    """Started and settled offsets of one partition. The position passes an offset once all lower ones are settled.

    Offsets may have gaps (compaction, transaction markers): an offset that was never started does not block the
    position. Pure; not thread-safe. Create a new object for each assignment of the partition. A record that settles
    late, after the partition was revoked, then cannot move the position of the next assignment.
    """

    def __init__(self) -> None:
        self._order: deque[int] = deque()
        self._open: set[int] = set()
        self._last = -1

    def start(self, offset: int) -> None:
        """Note that the handling of a record starts. Raises ValueError unless offsets ascend."""
        if offset <= self._last:
            raise ValueError(f"offset {offset} started after {self._last}")
        self._last = offset
        self._order.append(offset)
        self._open.add(offset)

    def settle(self, offset: int) -> int | None:
        """Settle a record; returns the new position to commit (the next offset to read), or None if it is unchanged.

        Raises ValueError for an offset that was not started, or that is settled already.
        """
        if offset not in self._open:
            raise ValueError(f"offset {offset} is not in progress")
        self._open.discard(offset)
        position = None
        while self._order and self._order[0] not in self._open:
            position = self._order.popleft() + 1
        return position

    @property
    def pending(self) -> int:
        """Number of records that were started and cannot be committed yet."""
        return len(self._order)

    @property
    def lowest(self) -> int | None:
        """The lowest offset that was started and is not settled; None if there is none."""
        return self._order[0] if self._order else None
