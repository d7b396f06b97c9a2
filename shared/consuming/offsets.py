"""Which offset of a partition may be committed, when records settle out of order (invariant 4)."""

from collections import deque


class ContiguousOffsets:
    """Book-keeping of one partition: no offset is committable before every lower one that was started is settled.

    Offsets may have gaps (compaction, transaction markers): what was never started is never waited for. Pure; not
    thread-safe. Make a new one for each assignment of the partition, so that what settles late, after the partition
    was revoked, cannot move the position of the next assignment.
    """

    def __init__(self) -> None:
        self._order: deque[int] = deque()
        self._open: set[int] = set()
        self._last = -1

    def start(self, offset: int) -> None:
        """A record is being handled. Raises ValueError unless offsets ascend."""
        if offset <= self._last:
            raise ValueError(f"offset {offset} started after {self._last}")
        self._last = offset
        self._order.append(offset)
        self._open.add(offset)

    def settle(self, offset: int) -> int | None:
        """A record is done with; returns the new position to commit (the next offset to read), or None if unchanged.

        Raises ValueError for an offset that is not under way.
        """
        if offset not in self._open:
            raise ValueError(f"offset {offset} is not under way")
        self._open.discard(offset)
        position = None
        while self._order and self._order[0] not in self._open:
            position = self._order.popleft() + 1
        return position

    @property
    def pending(self) -> int:
        """How many records were started and cannot be committed yet."""
        return len(self._order)

    @property
    def lowest(self) -> int | None:
        """The lowest offset that is not settled; every started one below it is."""
        return self._order[0] if self._order else None
