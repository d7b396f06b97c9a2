"""Records that tests write to and read from Kafka, and the positions that groups have committed."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import GroupCoordinatorNotAvailableError

from shared.contract.encoding import decode_event, encode
from shared.contract.events import Command, Event, event_key
from shared.contract.headers import ReceivedHeaders
from shared.contract.keys import command_version, events_partition
from shared.kafka.producer import client_options
from shared.settings import Settings, Topic
from tests.support.waiting import wait_for_async, within


@asynccontextmanager
async def publisher(settings: Settings) -> AsyncIterator["Publisher"]:
    """A producer for this test, with batches, so that thousands of records take no time."""
    producer = AIOKafkaProducer(**client_options(settings), acks="all", linger_ms=5)
    await producer.start()
    try:
        yield Publisher(producer, settings)
    finally:
        await producer.stop()


class Publisher:
    """Writes records to the topics as the gateway and the processor do, or any bytes."""

    def __init__(self, producer: AIOKafkaProducer, settings: Settings) -> None:
        self._producer = producer
        self._settings = settings

    async def commands(self, commands: Sequence[Command]) -> list[int]:
        """Versions of the commands, appended in this order."""
        topic = self._settings.topic(Topic.COMMANDS)
        pending = [
            await self._producer.send(topic, encode(command), key=command.owner.key.encode()) for command in commands
        ]
        return [command_version(self._settings.epoch, (await ack).offset) for ack in pending]

    async def events(self, events: Sequence[Event]) -> None:
        topic, count = self._settings.topic(Topic.EVENTS), self._settings.topic_partitions
        pending = [
            await self._producer.send(
                topic, encode(event), key=event_key(event), partition=events_partition(event.image_id, count)
            )
            for event in events
        ]
        await asyncio.gather(*pending)

    async def raw(self, topic: Topic, value: bytes | None, key: bytes = b"k", headers: ReceivedHeaders = ()) -> None:
        await self._producer.send_and_wait(self._settings.topic(topic), value, key=key, headers=list(headers))


@asynccontextmanager
async def reader(settings: Settings, topic: Topic) -> AsyncIterator[AIOKafkaConsumer]:
    """A consumer of a whole topic from its beginning, in no group."""
    name = settings.topic(topic)
    consumer = AIOKafkaConsumer(**client_options(settings), auto_offset_reset="earliest", enable_auto_commit=False)
    await consumer.start()
    try:
        partitions = [TopicPartition(name, number) for number in range(settings.topic_partitions)]
        consumer.assign(partitions)
        await consumer.seek_to_beginning(*partitions)
        yield consumer
    finally:
        await consumer.stop()


async def read_records(settings: Settings, topic: Topic, count: int, seconds: float = 30) -> list[Any]:
    """The first `count` records of a topic, as aiokafka gives them."""
    found: list[Any] = []
    async with reader(settings, topic) as consumer, within(seconds):
        while len(found) < count:
            batches = await consumer.getmany(timeout_ms=500)
            found += [record for records in batches.values() for record in records]
    return found


async def read_answers(settings: Settings, wanted: set[Any], seconds: float = 60) -> list[Event]:
    """Every event until each wanted image has one, and those of the next second."""
    events: list[Event] = []
    async with reader(settings, Topic.EVENTS) as consumer, within(seconds):
        missing = set(wanted)
        while missing:
            events += await _read(consumer)
            missing -= {event.image_id for event in events}
        events += await _read(consumer)
    return events


async def _read(consumer: AIOKafkaConsumer) -> list[Event]:
    batches = await consumer.getmany(timeout_ms=1000)
    return [decode_event(record.value) for records in batches.values() for record in records]


async def committed(settings: Settings, group: str) -> dict[TopicPartition, int]:
    """Committed positions of a group; none before the broker has a coordinator for it."""
    admin = AIOKafkaAdminClient(**client_options(settings))
    await admin.start()
    try:
        offsets = await admin.list_consumer_group_offsets(group)
        return {place: meta.offset for place, meta in offsets.items() if meta.offset >= 0}
    except GroupCoordinatorNotAvailableError:
        return {}
    finally:
        await admin.close()


async def wait_committed(settings: Settings, group: str, records: int, seconds: float = 60) -> None:
    """Wait until a group has committed this many records, over all its topics."""

    async def done() -> bool:
        return sum((await committed(settings, group)).values()) >= records

    await wait_for_async(done, seconds, f"{records} records committed by {group}", pause=0.2)
