"""Behaviour of aiokafka's consumer that would lose records. The tests fail if an upgrade changes it.

Each test asserts the library's behaviour; its docstring states what the indexer does about it, which is tested in
`test_indexer_faults.py`. A time-out can be read in private attributes only.
"""

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager

import pytest
from aiokafka import AIOKafkaConsumer, ConsumerRebalanceListener, TopicPartition

from indexer.consumer import REBALANCE_TIMEOUT_MS, kafka_consumer
from shared.contract.keys import new_id
from shared.kafka.producer import client_options
from shared.settings import Settings, Topic
from tests.support.isolation import isolated
from tests.support.log import publisher
from tests.support.waiting import within

RECORDS = 10


@pytest.fixture
def settings(engines: Settings) -> Iterator[Settings]:
    with isolated(engines, topics=True, topic_partitions=1) as found:
        yield found


@pytest.fixture
async def topic(settings: Settings) -> str:
    async with publisher(settings) as log:
        for number in range(RECORDS):
            await log.raw(Topic.DLQ, b"%d" % number)
    return settings.topic(Topic.DLQ)


@asynccontextmanager
async def member(settings: Settings, topic: str, group: str, **options: object) -> AsyncIterator[AIOKafkaConsumer]:
    consumer = AIOKafkaConsumer(
        topic,
        **client_options(settings),
        group_id=group,
        enable_auto_commit=False,
        auto_offset_reset="earliest",
        **options,
    )
    await consumer.start()
    try:
        yield consumer
    finally:
        await consumer.stop()


async def read(consumer: AIOKafkaConsumer, count: int) -> list[int]:
    """Offsets of records, read until there are this many."""
    found: list[int] = []
    async with within(20):
        while len(found) < count:
            batches = await consumer.getmany(timeout_ms=500, max_records=count - len(found))
            found += [record.offset for batch in batches.values() for record in batch]
    return found


async def test_bare_commit_covers_records_that_were_not_handled(settings: Settings, topic: str) -> None:
    """The indexer commits explicit positions, of what is settled."""
    place, group = TopicPartition(topic, 0), str(new_id())
    async with member(settings, topic, group) as consumer:
        await read(consumer, 5)
        # None of the five has been handled.
        await consumer.commit()
        assert await consumer.committed(place) == 5
        await consumer.commit({place: 2})
        assert await consumer.committed(place) == 2
    async with member(settings, topic, group) as consumer:
        assert await read(consumer, 1) == [2]


async def test_auto_commit_on_leaving_covers_records_that_were_not_handled(settings: Settings, topic: str) -> None:
    """The indexer has `enable_auto_commit=False`."""
    group = str(new_id())
    consumer = AIOKafkaConsumer(topic, **client_options(settings), group_id=group, auto_offset_reset="earliest")
    await consumer.start()
    await read(consumer, 5)
    await consumer.stop()
    async with member(settings, topic, group) as again:
        assert await read(again, 1) == [5]


async def test_an_error_in_the_listener_is_only_logged(settings: Settings, topic: str) -> None:
    """The indexer's listener catches everything itself and ends the process."""
    called = asyncio.Event()

    class Broken(ConsumerRebalanceListener):  # type: ignore[misc]
        async def on_partitions_revoked(self, revoked: object) -> None:
            """No partition has state."""

        async def on_partitions_assigned(self, assigned: object) -> None:
            called.set()
            raise RuntimeError("the client only logs this")

    consumer = AIOKafkaConsumer(
        **client_options(settings), group_id=str(new_id()), enable_auto_commit=False, auto_offset_reset="earliest"
    )
    consumer.subscribe([topic], listener=Broken())
    await consumer.start()
    try:
        async with within(20):
            await called.wait()
        assert await read(consumer, 1) == [0]
    finally:
        await consumer.stop()


async def test_missing_topic_is_read_as_an_empty_one(settings: Settings) -> None:
    """The indexer does not start where a topic is missing, and is not ready where it is gone."""
    consumer = AIOKafkaConsumer(**client_options(settings), group_id=str(new_id()), enable_auto_commit=False)
    await consumer.start()
    try:
        consumer.subscribe([settings.topic_prefix + "nowhere"])
        assert await consumer.getmany(timeout_ms=1000) == {}
    finally:
        await consumer.stop()


async def test_cancelled_read_loses_nothing(settings: Settings, topic: str) -> None:
    """The indexer cancels its reads at a revoke."""
    async with member(settings, topic, str(new_id())) as consumer:
        place = TopicPartition(topic, 0)
        assert await read(consumer, RECORDS) == list(range(RECORDS))
        waiting = asyncio.create_task(consumer.getmany(place, timeout_ms=10_000))
        await asyncio.sleep(0.2)
        waiting.cancel()
        await asyncio.gather(waiting, return_exceptions=True)
        async with publisher(settings) as log:
            await log.raw(Topic.DLQ, b"next")
        assert await read(consumer, 1) == [RECORDS]


async def test_members_wait_for_a_drain(settings: Settings) -> None:
    """By default aiokafka's rebalance time-out equals its session time-out, which is shorter than a drain."""
    short = AIOKafkaConsumer(**client_options(settings), group_id="g", session_timeout_ms=6000)
    ours = kafka_consumer(settings)
    assert short._rebalance_timeout_ms == 6000
    assert ours._rebalance_timeout_ms == REBALANCE_TIMEOUT_MS
    await short.stop()
    await ours.stop()
