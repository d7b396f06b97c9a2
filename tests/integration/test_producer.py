"""The producer on a real broker: the result or error of each write that fails (invariant 8)."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, suppress
from datetime import timedelta

import pytest
from aiokafka.admin import AIOKafkaAdminClient, NewTopic

from shared.consuming.dead_letters import dead_letter_headers
from shared.contract.keys import events_partition, new_id
from shared.errors import PoisonRecord, RecordTooLarge, Unavailable, UnknownOutcome
from shared.kafka.producer import DISCONNECT_SECONDS, FLUSH_SECONDS, Producer, client_options
from shared.kafka.writers import KafkaCommandLog, KafkaDeadLetters, KafkaEventLog
from shared.ports import Appended
from shared.settings import Settings, Topic
from tests.support import records
from tests.support.engines.stack import Stack
from tests.support.isolation import isolated
from tests.support.log import read_records
from tests.support.processes.halt import stopped
from tests.support.waiting import Stopwatch, wait_for_async, within

SMALL = "small"
"""A topic that accepts records up to 5,000 bytes, fewer than the client does."""


@pytest.fixture(scope="module")
def settings(engines: Settings) -> Iterator[Settings]:
    with isolated(engines, topics=True, topic_partitions=2, kafka_send_timeout=timedelta(seconds=10)) as found:
        yield found


@pytest.fixture
async def producer(settings: Settings) -> AsyncIterator[Producer]:
    found = Producer(settings)
    yield found
    await found.close()


@pytest.fixture
async def small(settings: Settings) -> AsyncIterator[str]:
    name = settings.topic_prefix + SMALL
    admin = AIOKafkaAdminClient(**client_options(settings))
    await admin.start()
    config = {"max.message.bytes": "5000", "message.timestamp.type": "LogAppendTime"}
    await admin.create_topics([NewTopic(name, 1, 1, topic_configs=config)])
    yield name
    await admin.delete_topics([name])
    await admin.close()


async def send(producer: Producer, topic: str, size: int = 10) -> Appended:
    return await producer.send(topic, b"x" * size, key=b"k", headers=[])


async def test_append_returns_the_offset_of_a_command(producer: Producer, settings: Settings) -> None:
    log = KafkaCommandLog(producer, settings, "imagepipe/test")
    command = records.uploaded()
    answers = [await log.append(command) for _ in range(3)]
    assert len({answer.partition for answer in answers}) == 1
    assert [answer.offset for answer in answers] == [0, 1, 2]
    found = await read_records(settings, Topic.COMMANDS, 3)
    assert {record.key for record in found} == {command.owner.key.encode()}
    assert dict(found[0].headers)["ce_type"] == b"image.uploaded"


async def test_every_event_of_an_image_is_in_its_partition(producer: Producer, settings: Settings) -> None:
    log = KafkaEventLog(producer, settings, "imagepipe/test")
    images = [new_id() for _ in range(6)]
    for image in images:
        await log.publish(records.ready(image, new_id(), 2))
        await log.publish(records.removed(image, 4))
    for record in await read_records(settings, Topic.EVENTS, 12):
        [image] = [image for image in images if record.key.startswith(str(image).encode())]
        assert record.partition == events_partition(image, 2)


async def test_too_large_for_the_client_is_refused(producer: Producer, small: str) -> None:
    with pytest.raises(RecordTooLarge, match="too large"):
        await send(producer, small, 3_000_000)
    assert await send(producer, small) == Appended(0, 0)


async def test_too_large_for_the_broker_is_refused_and_harms_no_other(producer: Producer, small: str) -> None:
    """A batch that was refused leaves a gap: the same aiokafka producer would fail the next with OutOfOrderSequence."""
    assert await send(producer, small) == Appended(0, 0)
    with pytest.raises(RecordTooLarge, match="too large"):
        await send(producer, small, 20_000)
    assert await send(producer, small) == Appended(0, 1)


async def test_an_answer_larger_than_its_topic_accepts_is_refused(producer: Producer, settings: Settings) -> None:
    """The command that it answers goes to the DLQ; the producer still works."""
    log = KafkaEventLog(producer, settings, "imagepipe/test")
    answer = records.ready(new_id(), new_id(), 2)
    endless = answer.model_copy(update={"current": answer.current.model_copy(update={"notes": ("x" * 1_200_000,)})})
    with pytest.raises(RecordTooLarge, match="too large"):
        await log.publish(endless)
    await log.publish(answer)


async def test_largest_record_fits_into_the_dlq_topic(producer: Producer, settings: Settings) -> None:
    try:
        raise PoisonRecord("x" * 10_000)
    except PoisonRecord as error:
        headers = dead_letter_headers(
            [("ce_type", b"?")], topic="images.events", partition=1, offset=7, version=None, error=error, attempts=3
        )
    assert sum(len(name) + len(value) for name, value in headers) < 5_000
    value = b"x" * 1_048_000
    await KafkaDeadLetters(producer, settings).send(b"key", value, headers)
    [dead] = await read_records(settings, Topic.DLQ, 1)
    assert dead.value == value


async def test_missing_topic_is_reported(producer: Producer, settings: Settings) -> None:
    with pytest.raises(Unavailable, match="missing topics: nowhere"):
        await producer.check(["nowhere"])
    await producer.check([settings.topic(topic) for topic in Topic])


async def test_no_broker_is_unavailable(settings: Settings) -> None:
    away = Producer(settings.model_copy(update={"kafka_bootstrap_servers": "127.0.0.1:1"}))
    with pytest.raises(Unavailable, match="cannot connect"):
        await away.start()
    await away.close()


async def test_stopped_broker_is_an_unknown_outcome_in_time_and_writes_work_again_after_it(
    running: Stack, settings: Settings
) -> None:
    """aiokafka alone never gives up an idempotent batch."""
    if not running.runs("kafka"):
        pytest.skip("the broker is not ours to stop")
    producer = Producer(settings.model_copy(update={"kafka_send_timeout": timedelta(seconds=1.5)}))
    topic = settings.topic(Topic.COMMANDS)
    before = await send(producer, topic)
    with stopped(running.pid("kafka")):
        watch = Stopwatch()
        several = await asyncio.gather(*(send(producer, topic) for _ in range(3)), return_exceptions=True)
        assert all(isinstance(result, UnknownOutcome) for result in several), several
        # The second write finds no connection at all.
        with pytest.raises(Unavailable):
            await send(producer, topic)
        assert watch.seconds() < 20
    after = await resumed(producer, topic)
    assert before.offset is not None
    assert after.offset is not None
    assert after.offset > before.offset
    await producer.close()


@asynccontextmanager
async def door(behind: str) -> AsyncIterator[tuple[str, asyncio.Event]]:
    """An address that accepts connections at once, and forwards them to another when the event is set."""
    opened = asyncio.Event()
    host, _, port = behind.split(",", maxsplit=1)[0].rpartition(":")

    async def pass_on(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(65536):
            writer.write(data)
        writer.close()

    async def enter(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await opened.wait()
        there, back = await asyncio.open_connection(host, int(port))
        await asyncio.gather(pass_on(reader, back), pass_on(there, writer), return_exceptions=True)

    server = await asyncio.start_server(enter, "127.0.0.1", 0)
    try:
        yield f"127.0.0.1:{server.sockets[0].getsockname()[1]}", opened
    finally:
        opened.set()
        server.close()


async def test_broker_without_answers_delays_each_write_once(settings: Settings) -> None:
    limit = 2.0
    async with door(settings.kafka_bootstrap_servers) as (address, opened):
        changes = {"kafka_bootstrap_servers": address, "kafka_send_timeout": timedelta(seconds=limit)}
        producer = Producer(settings.model_copy(update=changes))
        topic = settings.topic(Topic.COMMANDS)
        watch = Stopwatch()
        several = await asyncio.gather(*(send(producer, topic) for _ in range(5)), return_exceptions=True)
        assert watch.seconds() < limit + 1
        # Nothing was sent.
        assert [type(result) for result in several] == [Unavailable] * 5
        opened.set()
        assert (await resumed(producer, topic)).offset is not None
        await producer.close()


async def test_close_waits_a_bounded_time_for_a_hanging_broker(running: Stack, settings: Settings) -> None:
    if not running.runs("kafka"):
        pytest.skip("the broker is not ours to stop")
    producer = Producer(settings)
    topic = settings.topic(Topic.COMMANDS)
    await send(producer, topic)
    with stopped(running.pid("kafka")):
        pending = asyncio.create_task(send(producer, topic))
        await asyncio.sleep(0.1)
        watch = Stopwatch()
        async with within(20):
            await producer.close()
        assert watch.seconds() < FLUSH_SECONDS + DISCONNECT_SECONDS + 1
        pending.cancel()


async def resumed(producer: Producer, topic: str) -> Appended:
    async def sent() -> Appended | None:
        with suppress(Unavailable):
            return await send(producer, topic)
        return None

    return await wait_for_async(sent, 60, "the producer can write again")
