"""The indexer process: connects, indexes both topics until it must stop, and disconnects."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from datetime import timedelta

import structlog

from indexer.consumer import TOPICS, Consumer, kafka_consumer
from indexer.delivery import Delivery
from indexer.fence import Fence
from indexer.handler import Handler
from shared.cassandra.index import BULK_REQUESTS_AT_ONCE, CassandraIndex
from shared.consuming.delivery import DeliveryPolicy
from shared.kafka.producer import Producer
from shared.kafka.topics import require_topics
from shared.kafka.writers import KafkaCommandLog, KafkaDeadLetters
from shared.observability.health import InternalServer, Progress
from shared.observability.metrics import Service
from shared.retry import retry_unavailable
from shared.settings import Settings

log = structlog.get_logger()

SOURCE = "imagepipe/indexer"
STALL_LIMIT = timedelta(minutes=2)
"""Time without progress after which the process is not alive. It is well above OUTAGE_RETRY_LIMIT plus a drain, after
which the process ends anyway."""


async def serve(settings: Settings, stop: asyncio.Event) -> None:
    """Index both topics until `stop` is set.

    Raises Unavailable and TooManyDeadLetters: a restart may help. Raises ConfigurationError: change a setting first.
    """
    await require_topics(settings)
    progress = Progress(STALL_LIMIT)
    async with _index(settings) as index, _producer(settings) as producer:
        delivery = _delivery(settings, index, producer, progress)
        topics = {settings.topic(topic): topic for topic in TOPICS}
        consumer = Consumer(kafka_consumer(settings), topics, delivery.deliver, progress, settings.outage_retry_limit)
        server = InternalServer(
            Service.INDEXER,
            settings.indexer_internal_port,
            {"kafka": consumer.check, "cassandra": index.check},
            progress.stalled,
            host=settings.internal_host,
        )
        await server.start()
        try:
            log.info("service_started", internal_port=server.port)
            await consumer.run(stop)
        finally:
            await server.stop()


def _delivery(settings: Settings, index: CassandraIndex, producer: Producer, progress: Progress) -> Delivery:
    fence = Fence(
        index,
        KafkaCommandLog(producer, settings, SOURCE),
        epoch=settings.epoch,
        shards=settings.day_shards,
        on_progress=progress.advanced,
    )
    handler = Handler(index, shards=settings.day_shards, concurrency=settings.indexer_concurrency, fence=fence)
    policy = DeliveryPolicy.from_settings(settings, KafkaDeadLetters(producer, settings))
    return Delivery(handler, policy, epoch=settings.epoch)


@contextlib.asynccontextmanager
async def _index(settings: Settings) -> AsyncIterator[CassandraIndex]:
    index = CassandraIndex(requests_at_once=BULK_REQUESTS_AT_ONCE)
    try:
        await retry_unavailable(lambda: index.connect(settings), settings.outage_retry_limit)
        yield index
    finally:
        await index.close()


@contextlib.asynccontextmanager
async def _producer(settings: Settings) -> AsyncIterator[Producer]:
    # The producer connects when the first fence or dead letter needs it.
    producer = Producer(settings)
    try:
        yield producer
    finally:
        await producer.close()
