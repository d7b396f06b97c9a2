"""What one record of the log means for the index: its rows, or the effects of a fence."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from indexer.fence import Fence
from shared.contract.encoding import decode_event
from shared.contract.events import Event
from shared.contract.headers import ReceivedHeaders
from shared.contract.logged_command import LoggedCommand, LoggedFence, read_command
from shared.ports import Index
from shared.read_model.tables import Write, command_writes, event_writes
from shared.settings import Topic

Barrier = Callable[[], Awaitable[None]]
"""Returns once every lower offset of the record's partition is settled."""


@dataclass(frozen=True)
class ConsumedRecord:
    """A record as it came from Kafka. `appended_at` in seconds since 1970, None where it does not tell."""

    topic: Topic
    partition: int
    offset: int
    key: bytes | None
    value: bytes | None
    headers: ReceivedHeaders
    appended_at: float | None = None

    def content(self, epoch: int) -> LoggedCommand | Event | None:
        """What the record says; None for a compaction tombstone among the events. Raises PoisonRecord."""
        if self.topic is Topic.COMMANDS:
            return read_command(self, epoch)
        return None if self.value is None else decode_event(self.value)


class Handler:
    """Applies records of both topics. Idempotent, and indifferent to order but at a fence (invariants 2 and 9)."""

    def __init__(self, index: Index, *, epoch: int, shards: int, concurrency: int, fence: Fence | None) -> None:
        """`fence` None: records are applied without a fence's effects, as a replay or a rebuild must."""
        self._index = index
        self._epoch = epoch
        self._shards = shards
        self._fence = fence
        self._slots = asyncio.Semaphore(concurrency)

    async def handle(self, record: ConsumedRecord, lower_settled: Barrier) -> None:
        """Apply one record; returns when all its rows are acknowledged. Raises PoisonRecord, Unavailable."""
        content = record.content(self._epoch)
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
