"""How aiokafka's producer can lose records or hang: the reasons for `shared.kafka.producer.Producer`."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from aiokafka import AIOKafkaProducer
from aiokafka.errors import KafkaError

from shared.kafka.producer import client_options
from shared.settings import Settings, Topic
from tests.support.engines.stack import Stack
from tests.support.isolation import isolated
from tests.support.processes.halt import stopped

REQUEST_SECONDS = 1.0


@pytest.fixture(scope="module")
def settings(engines: Settings) -> Iterator[Settings]:
    with isolated(engines, topics=True, topic_partitions=1) as found:
        yield found


@asynccontextmanager
async def producing(settings: Settings, **options: Any) -> AsyncIterator[AIOKafkaProducer]:
    producer = AIOKafkaProducer(
        **client_options(settings), acks="all", request_timeout_ms=int(REQUEST_SECONDS * 1000), **options
    )
    await producer.start()
    try:
        yield producer
    finally:
        await asyncio.wait_for(producer.stop(), 20)


async def test_only_an_idempotent_batch_never_expires(running: Stack, settings: Settings) -> None:
    """The reason why each write has a deadline of its own, after which its outcome is unknown."""
    if not running.runs("kafka"):
        pytest.skip("the broker is not ours to stop")
    topic = settings.topic(Topic.COMMANDS)
    async with producing(settings) as plain, producing(settings, enable_idempotence=True) as idempotent:
        for producer in (plain, idempotent):
            await producer.send_and_wait(topic, b"before")
        with stopped(running.pid("kafka")):
            expiring = asyncio.ensure_future(plain.send_and_wait(topic, b"x"))
            waiting = asyncio.ensure_future(idempotent.send_and_wait(topic, b"x"))
            await asyncio.wait({expiring}, timeout=8 * REQUEST_SECONDS)
            assert isinstance(expiring.exception(), KafkaError)
            assert not waiting.done()
        # It is sent as soon as the broker is available again: a time-out is an unknown outcome, not a failure.
        assert (await asyncio.wait_for(waiting, 30)).offset > 0


async def test_flush_does_not_raise_for_a_refused_record(settings: Settings) -> None:
    # The events topic is compacted: a record without a key is refused.
    async with producing(settings) as producer:
        sent = await producer.send(settings.topic(Topic.EVENTS), b"x")
        await producer.flush()
        assert isinstance(sent.exception(), KafkaError)
