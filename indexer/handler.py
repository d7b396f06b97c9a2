"""What one record of the log means for the index: its rows, or the effects of a fence."""

import asyncio
from collections.abc import Awaitable, Callable

from indexer.fence import Fence
from shared.consuming.record import ConsumedRecord
from shared.contract.encoding import decode_event
from shared.contract.events import Event
from shared.contract.logged_command import LoggedCommand, LoggedFence, read_command
from shared.errors import PoisonRecord
from shared.ports import Index
from shared.read_model.tables import Write, command_writes, event_writes
from shared.settings import Topic

Barrier = Callable[[], Awaitable[None]]
"""Returns once every lower offset of the record's partition is settled."""


Content = LoggedCommand | Event | None
"""What a record says: a command, an answer, or nothing, as a compaction tombstone among the events does."""


def parse(record: ConsumedRecord, epoch: int) -> Content | PoisonRecord:
    """What a record says. Never raises: of a record that cannot be read it returns the error."""
    try:
        if record.topic is Topic.COMMANDS:
            return read_command(record, epoch)
        return None if record.value is None else decode_event(record.value)
    except PoisonRecord as error:
        return error


class Handler:
    """Applies records of both topics. Idempotent, and indifferent to order but at a fence (invariants 2 and 9)."""

    def __init__(self, index: Index, *, shards: int, concurrency: int, fence: Fence | None) -> None:
        """`fence` None: records are applied without a fence's effects, as a replay or a rebuild must."""
        self._index = index
        self._shards = shards
        self._fence = fence
        self._slots = asyncio.Semaphore(concurrency)

    async def handle(self, content: Content, lower_settled: Barrier) -> None:
        """Apply what a record says; returns when all its rows are acknowledged. Raises Unavailable."""
        if content is None:
            return
        if isinstance(content, Event):
            await self._apply(event_writes(content, self._shards))
        elif isinstance(content, LoggedFence) and self._fence is not None:
            # No slot is held while waiting: the lower offsets need them.
            await lower_settled()
            await self._fence.clear(content)
        else:
            await self._apply(command_writes(content, self._shards))

    async def _apply(self, writes: list[Write]) -> None:
        if writes:
            async with self._slots:
                await self._index.apply(writes)
