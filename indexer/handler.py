"""What one record of the log means for the index: its rows, or the effects of a fence."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from indexer.fence import Fence
from shared.events import Headers, OwnerCleared, decode_command, decode_event, record_version
from shared.ports import Index
from shared.settings import Topic
from shared.tables import Write, command_writes, event_writes

Barrier = Callable[[], Awaitable[None]]
"""Returns once every lower offset of the record's partition is settled."""


@dataclass(frozen=True)
class ConsumedRecord:
    """A record as it came from Kafka, its bytes unread."""

    topic: Topic
    partition: int
    offset: int
    key: bytes | None
    value: bytes | None
    headers: Headers

    def header(self, name: str) -> str | None:
        """First value of a header, or None."""
        return next((value.decode(errors="replace") for key, value in self.headers if key == name), None)


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
        if record.topic is Topic.EVENTS:
            # A null value is a compaction tombstone: it says nothing about an image.
            if record.value is not None:
                await self._apply(event_writes(decode_event(record.value), self._shards))
            return
        command = decode_command(record.value)
        version = record_version(command, self._epoch, record.offset, record.headers)
        if isinstance(command, OwnerCleared) and self._fence is not None:
            # No slot is held while waiting: the lower offsets need them.
            await lower_settled()
            await self._fence.clear(command, version, record.header("traceparent"))
        else:
            await self._apply(command_writes(command, version, self._shards))

    async def _apply(self, writes: list[Write]) -> None:
        if writes:
            async with self._slots:
                await self._index.apply(writes)
