"""Applies one record of the log to the index: writes its rows, or applies a fence."""

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
"""Function that returns when all lower offsets of the record's partition are settled."""


Content = LoggedCommand | Event | None
"""Parsed content of a record: a command, an answer, or None for a record without a value (Kafka's tombstone)."""


def parse(record: ConsumedRecord, epoch: int) -> Content | PoisonRecord:
    """Parse a record. Never raises: for a record that cannot be parsed it returns the error."""
    try:
        if record.topic is Topic.COMMANDS:
            return read_command(record, epoch)
        return None if record.value is None else decode_event(record.value)
    except PoisonRecord as error:
        return error


class Handler:
    """Applies records of both topics. Idempotent. The order matters only for a fence (invariants 2 and 9)."""

    def __init__(self, index: Index, *, shards: int, concurrency: int, fence: Fence | None) -> None:
        """`concurrency` is the number of records whose rows are written at the same time.

        With `fence` None a fence deletes nothing; a replay or a rebuild needs that.
        """
        self._index = index
        self._shards = shards
        self._fence = fence
        self._slots = asyncio.Semaphore(concurrency)

    async def handle(self, content: Content, lower_settled: Barrier) -> None:
        """Apply a record; returns when Cassandra has acknowledged all its rows. Raises Unavailable."""
        if content is None:
            return
        if isinstance(content, Event):
            await self._apply(event_writes(content, self._shards))
            return
        # A fence writes its record before it deletes anything, so that no cleared image can be replaced.
        await self._apply(command_writes(content, self._shards))
        if isinstance(content, LoggedFence) and self._fence is not None:
            # The fence waits without a slot, because the lower offsets need the slots.
            await lower_settled()
            await self._fence.clear(content)

    async def _apply(self, writes: list[Write]) -> None:
        if writes:
            async with self._slots:
                await self._index.apply(writes)
