"""The position up to which the index has the events, as the gateway reads it from Kafka."""

import asyncio
from types import SimpleNamespace
from typing import Any, cast

import pytest
from aiokafka import TopicPartition

from gateway.events import indexed
from gateway.events.indexed import QUIET_POLLS, IndexedPosition
from gateway.events.listeners import Listeners
from gateway.events.position import Position
from shared.settings import Settings, Topic

SETTINGS = Settings(_env_file=None)
PARTITIONS = 2


class Group:
    """An admin client of Kafka, and the committed offset of each partition."""

    def __init__(self) -> None:
        self.offset = 0
        self.polls = 0

    async def start(self) -> None:
        """Nothing to connect to."""

    async def close(self) -> None:
        """Nothing to close."""

    async def list_consumer_group_offsets(self, _group: str) -> dict[TopicPartition, Any]:
        self.polls += 1
        topic = SETTINGS.topic(Topic.EVENTS)
        return {TopicPartition(topic, number): SimpleNamespace(offset=self.offset) for number in range(PARTITIONS)}


def position(offset: int) -> str:
    return str(Position(SETTINGS.epoch, (offset,) * PARTITIONS))


async def test_the_group_is_read_seldom_while_the_index_has_all_events(monkeypatch: pytest.MonkeyPatch) -> None:
    group, slept = Group(), asyncio.Semaphore(0)

    async def sleep(_seconds: float) -> None:
        await slept.acquire()

    async def pass_polls(count: int) -> int:
        """Polls of Kafka within so many rounds."""
        before = group.polls
        for _ in range(count):
            slept.release()
            for _ in range(5):
                await asyncio.sleep(0)
        return group.polls - before

    monkeypatch.setattr(indexed, "AIOKafkaAdminClient", lambda **_: group)
    monkeypatch.setattr(indexed, "asyncio", SimpleNamespace(sleep=sleep))
    ring = SimpleNamespace(next_offsets=(7,) * PARTITIONS, position=position(7))
    found = IndexedPosition(SETTINGS, cast(Listeners, SimpleNamespace(ring=ring)))
    running = asyncio.create_task(found.run())
    await pass_polls(1)
    assert await pass_polls(3) == 3
    assert found() == position(0)
    group.offset = 7
    await pass_polls(1)
    assert found() == position(7)
    assert await pass_polls(QUIET_POLLS) == 0
    assert await pass_polls(1) == 1
    ring.position = position(8)
    assert await pass_polls(3) == 3
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
