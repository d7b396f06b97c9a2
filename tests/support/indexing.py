"""The indexer's parts over engines in memory."""

from collections.abc import Callable

from indexer.fence import Fence
from indexer.handler import Content, Handler, parse
from shared.consuming.record import ConsumedRecord
from shared.contract.encoding import encode
from shared.contract.events import Command, Deleted, Event
from shared.errors import PoisonRecord
from shared.settings import Topic
from tests.support.memory.ports import MemoryCommandLog, MemoryIndex

SHARDS = 4


def consumed(record: Command | Event | bytes | None, offset: int, topic: Topic = Topic.COMMANDS) -> ConsumedRecord:
    value = record if isinstance(record, bytes | None) else encode(record)
    return ConsumedRecord(topic, 0, offset, b"key", value, [("traceparent", b"00-1-2-01")])


def content_of(record: Command | Event | None, offset: int, topic: Topic = Topic.COMMANDS) -> Content:
    """What such a record says, in a log of the first epoch."""
    content = parse(consumed(record, offset, topic), epoch=1)
    assert not isinstance(content, PoisonRecord)
    return content


async def nothing_lower() -> None:
    """Every lower offset is settled."""


def fence_of(index: MemoryIndex, commands: MemoryCommandLog, progress: Callable[[], None] = lambda: None) -> Fence:
    return Fence(index, commands, epoch=1, shards=SHARDS, on_progress=progress)


def handler_of(index: MemoryIndex, fence: Fence | None = None) -> Handler:
    return Handler(index, shards=SHARDS, concurrency=4, fence=fence)


def deletes(log: MemoryCommandLog) -> list[Deleted]:
    """The deletes that were appended, in order."""
    return [command for command in log.commands if isinstance(command, Deleted)]
