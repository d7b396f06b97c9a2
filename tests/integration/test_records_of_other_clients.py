"""Records that clients in other languages can write: compressed batches, and names of headers that are not UTF-8.

They stop neither the services nor a reader (invariant 10). `test_ops_forged_records` has the operators' commands.
"""

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.consumer import fetcher
from aiokafka.record.memory_records import MemoryRecords

from gateway.events.listeners import Listeners
from gateway.events.reader import Reader
from shared.cassandra.index import CassandraIndex
from shared.contract.encoding import encode
from shared.contract.keys import Owner, command_version, new_id
from shared.kafka import record_batches
from shared.kafka.producer import client_options
from shared.observability.metrics import Service
from shared.s3.store import S3Store
from shared.settings import Settings, Topic
from tests.integration.test_processor_faults import append, check_all_ready, make_uploads
from tests.support import records
from tests.support.isolation import isolated
from tests.support.processes.service import ServiceProcess
from tests.support.raw_header_names import RawName, writing_raw_names
from tests.support.waiting import wait_for_async

HEADERS = [(RawName(b"\xff\xfe"), b"x"), (RawName(b"\xc3("), None)]


@pytest.fixture(scope="module")
def settings(engines: Settings) -> Iterator[Settings]:
    with isolated(engines, topics=True, bucket=True, keyspace=True, topic_partitions=1) as found:
        yield found.model_copy(update={"kafka_session_timeout": timedelta(seconds=6)})


@asynccontextmanager
async def other_client(settings: Settings, **options: Any) -> AsyncIterator[AIOKafkaProducer]:
    with writing_raw_names():
        producer = AIOKafkaProducer(**client_options(settings), acks="all", **options)
        await producer.start()
        try:
            yield producer
        finally:
            await producer.stop()


@asynccontextmanager
async def reading(settings: Settings, topic: Topic) -> AsyncIterator[AIOKafkaConsumer]:
    """A consumer of our client library that stands at the end of the topic."""
    consumer = AIOKafkaConsumer(**client_options(settings), group_id=None, enable_auto_commit=False)
    await consumer.start()
    try:
        place = TopicPartition(settings.topic(topic), 0)
        consumer.assign([place])
        await consumer.seek_to_end(place)
        yield consumer
    finally:
        await consumer.stop()


async def test_aiokafka_alone_never_gets_past_such_a_name(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fetcher, "MemoryRecords", MemoryRecords)
    async with other_client(settings) as producer, reading(settings, Topic.DLQ) as consumer:
        topic = settings.topic(Topic.DLQ)
        await producer.send_and_wait(topic, b"1", headers=HEADERS)
        await producer.send_and_wait(topic, b"2")
        for _ in range(3):
            with pytest.raises(UnicodeDecodeError):
                await consumer.getone()
        record_batches.accept_any_header_name()
        got = [await consumer.getone() for _ in range(2)]
    assert [record.value for record in got] == [b"1", b"2"]
    assert got[0].headers == (("\\xff\\xfe", b"x"), ("\\xc3(", None))


async def test_the_broker_decompresses_batches(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    codecs: list[int] = []
    value = encode(records.ready(new_id(), new_id(), 2))

    class Recorded(MemoryRecords):  # type: ignore[misc]
        def next_batch(self) -> Any:
            batch = super().next_batch()
            codecs.append(batch.compression_type)
            return batch

    monkeypatch.setattr(fetcher, "MemoryRecords", Recorded)
    for topic in Topic:
        async with other_client(settings, compression_type="gzip") as producer, reading(settings, topic) as consumer:
            await producer.send_and_wait(settings.topic(topic), value, key=b"k")
            assert (await consumer.getone()).value == value
    assert codecs == [0, 0, 0]


async def test_the_processor_handles_a_command_with_such_a_name(settings: Settings, tmp_path: Path) -> None:
    store = S3Store.from_settings(settings)
    processor = ServiceProcess(Service.PROCESSOR, settings, tmp_path / "processor.log")
    try:
        uploads = await make_uploads(store, settings, 3)
        await append(settings, uploads[:1])
        async with other_client(settings) as producer:
            topic = settings.topic(Topic.COMMANDS)
            await producer.send_and_wait(topic, encode(uploads[1]), key=uploads[1].owner.key.encode(), headers=HEADERS)
            junk = await producer.send_and_wait(topic, b"junk", key=b"k", headers=HEADERS)
        await append(settings, uploads[2:])
        processor.start()
        await wait_for_async(lambda: len(processor.logged("command_done")) >= 3, 60, "three commands are done")

        def dead_lettered() -> bool:
            return junk.offset in [line["offset"] for line in processor.logged("record_dead_lettered")]

        await wait_for_async(dead_lettered, 60, "the invalid record is in the DLQ")
        await check_all_ready(settings, store, uploads)
    finally:
        processor.end()
        await store.close()


async def test_the_indexer_applies_records_with_such_a_name(settings: Settings, tmp_path: Path) -> None:
    index = await CassandraIndex.open(settings)
    indexer = ServiceProcess(Service.INDEXER, settings, tmp_path / "indexer.log")
    upload = records.uploaded(owner=Owner(type="user", id=str(new_id())))
    try:
        async with other_client(settings) as producer:
            commands, events = settings.topic(Topic.COMMANDS), settings.topic(Topic.EVENTS)
            sent = await producer.send_and_wait(commands, encode(upload), key=b"k", headers=HEADERS)
            version = command_version(settings.epoch, sent.offset)
            answer = records.ready(upload.image_id, upload.revision, version, owner=upload.owner)
            await producer.send_and_wait(events, encode(answer), key=b"k", headers=HEADERS)
        indexer.start()

        async def found() -> bool:
            row = await index.image(upload.image_id)
            return row is not None and row.current is not None

        await wait_for_async(found, 60, "the image is ready in the index")
    finally:
        indexer.end()
        await index.close()


async def test_live_events_go_on_after_records_with_such_a_name(settings: Settings) -> None:
    listeners = Listeners(1)
    reading_events = asyncio.create_task(Reader(settings, listeners, lambda _event: None).run())
    sent = [records.ready(new_id(), new_id(), version) for version in (2, 4, 6)]
    try:
        await wait_for_async(lambda: listeners.ring is not None, 60, "the reader stands at the end of the topic")
        async with other_client(settings) as producer:
            topic = settings.topic(Topic.EVENTS)
            for value, headers in (
                (encode(sent[0]), []), (b"junk", HEADERS), (encode(sent[1]), HEADERS), (encode(sent[2]), []),
            ):  # fmt: skip
                await producer.send_and_wait(topic, value, key=b"k", headers=headers, partition=0)

        def arrived() -> bool:
            ring = listeners.ring
            assert ring is not None
            held = [event.image_id for event in ring.since(ring.oldest_sequence) or ()]
            return held[-3:] == [event.image_id for event in sent]

        await wait_for_async(arrived, 60, "the events arrive")
    finally:
        reading_events.cancel()
        await asyncio.gather(reading_events, return_exceptions=True)
