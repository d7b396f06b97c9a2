"""One assigned partition: handles its records concurrently and computes the position to commit."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from functools import partial

from indexer.handler import Barrier
from shared.consuming.offsets import ContiguousOffsets
from shared.consuming.record import ConsumedRecord

Deliver = Callable[[ConsumedRecord, Barrier], Awaitable[None]]
"""Function that delivers a record and returns when it is settled. It raises only errors that must stop the process."""


class Partition:
    """A partition during one assignment. Records that settle after close() are ignored."""

    def __init__(self, deliver: Deliver, on_failure: Callable[[BaseException], None], window: int) -> None:
        """There is room while fewer records than `window` are started and cannot be committed yet."""
        self._deliver = deliver
        self._on_failure = on_failure
        self._window = window
        self._offsets = ContiguousOffsets()
        self._appended: dict[int, float] = {}
        self._moved = asyncio.Event()
        self._running: set[asyncio.Task[None]] = set()
        self.position: int | None = None
        """The position to commit (the next offset to read); None before a record is settled."""
        self.committed: int | None = None
        """The position that Kafka has committed in this assignment; None before the first commit."""

    @property
    def pending(self) -> int:
        """Number of records that are started and cannot be committed yet."""
        return self._offsets.pending

    @property
    def running(self) -> int:
        """Number of records that are running."""
        return len(self._running)

    def oldest_seconds(self) -> float:
        """Seconds since the append of the oldest record that is not settled; 0 if there is none."""
        return max(0.0, time.time() - min(self._appended.values())) if self._appended else 0.0

    @property
    def has_room(self) -> bool:
        """Whether the window has room for more records."""
        return self._offsets.pending < self._window

    def start(self, record: ConsumedRecord) -> None:
        """Start the record. Call this in the order of the offsets, with batches that begin while `has_room`."""
        self._offsets.start(record.offset)
        self._appended[record.offset] = record.appended_at or time.time()
        task = asyncio.create_task(self._run(record))
        self._running.add(task)
        task.add_done_callback(self._finished)

    async def _run(self, record: ConsumedRecord) -> None:
        await self._deliver(record, partial(self._lower_settled, record.offset))
        del self._appended[record.offset]
        position = self._offsets.settle(record.offset)
        if position is not None:
            self.position = position
        self._moved.set()

    def _finished(self, task: asyncio.Task[None]) -> None:
        self._running.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            self._on_failure(error)

    async def _lower_settled(self, offset: int) -> None:
        while self._offsets.lowest != offset:
            self._moved.clear()
            await self._moved.wait()

    async def drain(self, seconds: float) -> None:
        """Wait until all started records are settled, for at most `seconds`."""
        if self._running:
            await asyncio.wait(self._running, timeout=seconds)

    async def close(self) -> None:
        """Cancel the running records. They are not committed, so they will be read again."""
        for task in self._running:
            task.cancel()
        if self._running:
            await asyncio.wait(self._running)
