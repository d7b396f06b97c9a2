"""What aiokafka does when a partition gets another leader without an error that it could notice."""

import asyncio
import secrets
from collections.abc import AsyncIterator, Callable
from contextlib import suppress

import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.errors import KafkaError

from shared.kafka.producer import client_options
from shared.settings import Settings
from tests.support.engines.replicas import wait_whole
from tests.support.engines.stack import Stack
from tests.support.processes.halt import stopped
from tests.support.waiting import wait_for_async, within

REPLICAS = 3
FETCH_SECONDS = 0.5
"""How long a broker waits for records, by default."""
ELECTION_SECONDS = 60.0
LOOK_UP_SECONDS = 60.0
"""The open metadata request may be at the broker that hung; its time-out is 40 s."""


@pytest.fixture
async def partition(stack: Stack) -> AsyncIterator[TopicPartition]:
    """The only one of a topic with three replicas and one record."""
    await asyncio.to_thread(wait_whole, stack.settings)
    topic = f"led-{secrets.token_hex(4)}"
    admin = AIOKafkaAdminClient(**client_options(stack.settings))
    producer = AIOKafkaProducer(**client_options(stack.settings), acks="all")
    await admin.start()
    try:
        await admin.create_topics([NewTopic(topic, 1, REPLICAS)])
        await producer.start()
        await producer.send_and_wait(topic, b"first")
        yield TopicPartition(topic, 0)
        await admin.delete_topics([topic])
    finally:
        await producer.stop()
        await admin.close()
        await asyncio.to_thread(wait_whole, stack.settings)


async def described(settings: Settings, partition: TopicPartition) -> tuple[int, int]:
    """Number of the broker that leads, and how many replicas are in sync."""
    # A new client each time, because an old one may wait for the broker that hangs.
    admin = AIOKafkaAdminClient(**client_options(settings), request_timeout_ms=3000)
    try:
        await admin.start()
        [topic] = await admin.describe_topics([partition.topic])
        found = topic["partitions"][partition.partition]
        return int(found["leader"]), len(found["isr"])
    finally:
        await admin.close()


async def until(settings: Settings, partition: TopicPartition, wanted: Callable[[int, int], bool]) -> None:
    async def elected() -> bool:
        with suppress(KafkaError, TimeoutError, OSError):
            return wanted(*await described(settings, partition))
        return False

    await wait_for_async(elected, ELECTION_SECONDS, f"the wanted leader of {partition}", pause=0.5)


async def test_beginning_of_a_partition_is_read_from_its_new_leader(stack: Stack, partition: TopicPartition) -> None:
    # Without a committed position, as in a new group. aiokafka sends requests to the leader that it knows, and does not
    # look for a new leader until METADATA_MAX_AGE_MS.
    consumer = AIOKafkaConsumer(
        **client_options(stack.settings), auto_offset_reset="earliest", enable_auto_commit=False
    )
    await consumer.start()
    try:
        consumer.assign([partition])
        assert (await consumer.getone()).value == b"first"
        # It has no fetch open and starts none, so no response can report the change.
        consumer.pause(partition)
        await asyncio.sleep(2 * FETCH_SECONDS)
        old, _ = await described(stack.settings, partition)
        with stopped(stack.pid(f"kafka-{old}")):
            await until(stack.settings, partition, lambda leader, _: leader not in (old, -1))
        # Until it is in sync again, the old leader does not know about the change and answers requests.
        await until(stack.settings, partition, lambda _, in_sync: in_sync == REPLICAS)
        async with within(LOOK_UP_SECONDS):
            await consumer.seek_to_beginning(partition)
        consumer.resume(partition)
        async with within(LOOK_UP_SECONDS):
            assert (await consumer.getone()).value == b"first"
    finally:
        await consumer.stop()
