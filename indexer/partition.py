"""One assigned partition: records handled concurrently, settled into a contiguous position."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from functools import partial

from indexer.handler import Barrier
from shared.consuming.offsets import ContiguousOffsets
from shared.consuming.record import ConsumedRecord

Deliver = Callable[[ConsumedRecord, Barrier], Awaitable[None]]
"""Brings a record to its end, whatever that is; raises only what must stop the process."""


class Partition:
    """Lives as long as one assignment; what settles after close() is ignored."""

    def __init__(self, deliver: Deliver, on_failure: Callable[[BaseException], None], window: int) -> None:
        """`window` bounds how many records may be started above the committable position: memory and redelivery."""
        self._deliver = deliver
        self._on_failure = on_failure
        self._window = window
        self._offsets = ContiguousOffsets()
        self._appended: dict[int, float] = {}
        self._moved = asyncio.Event()
        self._running: set[asyncio.Task[None]] = set()
        self.position: int | None = None
        """Next offset to read after a restart; None until something settled."""
        self.committed: int | None = None
        """What of it Kafka has."""

    @property
    def pending(self) -> int:
        """Records started and not committable yet."""
        return self._offsets.pending

    @property
    def running(self) -> int:
        """Records started and not done with."""
        return len(self._running)

    def oldest_seconds(self) -> float:
        """Age, since it was appended, of the oldest record that is not done with; 0 when there is none."""
        return max(0.0, time.time() - min(self._appended.values())) if self._appended else 0.0

    async def admit(self, record: ConsumedRecord) -> None:
        """Start a record; waits while the window is full. Cancelled while waiting, the record was not started."""
        await self._until(lambda: self._offsets.pending < self._window)
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
        await self._until(lambda: self._offsets.lowest == offset)

    async def _until(self, condition: Callable[[], bool]) -> None:
        while not condition():
            self._moved.clear()
            await self._moved.wait()

    async def drain(self, seconds: float) -> None:
        """Wait until what was started is settled, or the time is over."""
        if self._running:
            await asyncio.wait(self._running, timeout=seconds)

    async def close(self) -> None:
        """Cancel what is still under way: it stays uncommitted and comes again."""
        for task in self._running:
            task.cancel()
        if self._running:
            await asyncio.wait(self._running)
