"""Start the indexer: `python -m indexer`. Ends with 0 after SIGTERM, 1 when a restart may help, 2 when it will not."""

import asyncio
import contextlib
import signal
import sys
from collections.abc import AsyncIterator
from datetime import timedelta

import structlog

from indexer.consumer import TOPICS, Consumer, kafka_consumer
from indexer.delivery import Delivery
from indexer.fence import Fence
from indexer.handler import Handler
from shared.cassandra.index import CassandraIndex
from shared.consuming.dead_letters import TooManyDeadLetters
from shared.consuming.delivery import DeliveryPolicy
from shared.errors import ConfigurationError, Unavailable
from shared.kafka.producer import Producer
from shared.kafka.topics import require_topics
from shared.kafka.writers import KafkaCommandLog, KafkaDeadLetters
from shared.observability.health import InternalServer, Progress
from shared.observability.logs import configure_logging
from shared.observability.metrics import Service
from shared.observability.tracing import configure_tracing
from shared.retry import retry_unavailable
from shared.settings import Settings

log = structlog.get_logger()

STALL_LIMIT = timedelta(minutes=2)
"""Records wait and none is settled: well above the retry limit of an outage plus a drain, which end the process."""


async def run(settings: Settings, stop: asyncio.Event) -> None:
    """Index both topics until `stop` is set.

    Raises Unavailable and TooManyDeadLetters (restart later), ConfigurationError (change a setting first).
    """
    await require_topics(settings)
    progress = Progress(STALL_LIMIT)
    async with _index(settings) as index, _producer(settings) as producer:
        fence = Fence(
            index,
            KafkaCommandLog(producer, settings, "imagepipe/indexer"),
            epoch=settings.epoch,
            shards=settings.day_shards,
            on_progress=progress.advanced,
        )
        handler = Handler(
            index,
            shards=settings.day_shards,
            concurrency=settings.indexer_concurrency,
            fence=fence,
        )
        policy = DeliveryPolicy.from_settings(settings, KafkaDeadLetters(producer, settings))
        delivery = Delivery(handler, policy, epoch=settings.epoch)
        topics = {settings.topic(topic): topic for topic in TOPICS}
        client = kafka_consumer(settings)
        consumer = Consumer(client, topics, delivery.deliver, progress, settings.outage_retry_limit)
        server = InternalServer(
            Service.INDEXER,
            settings.indexer_internal_port,
            {"kafka": consumer.check, "cassandra": index.check},
            progress.stalled,
            host=settings.internal_host,
        )
        await server.start()
        try:
            await consumer.run(stop)
        finally:
            await server.stop()


@contextlib.asynccontextmanager
async def _index(settings: Settings) -> AsyncIterator[CassandraIndex]:
    index = CassandraIndex()
    try:
        await retry_unavailable(lambda: index.connect(settings), settings.outage_retry_limit)
        yield index
    finally:
        await index.close()


@contextlib.asynccontextmanager
async def _producer(settings: Settings) -> AsyncIterator[Producer]:
    # Connects when the first fence or dead letter needs it.
    producer = Producer(settings)
    try:
        yield producer
    finally:
        await producer.close()


async def _serve(settings: Settings) -> int:
    stop = asyncio.Event()
    for name in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(name, stop.set)
    try:
        await run(settings, stop)
    except ConfigurationError as error:
        log.error("indexer_cannot_start", error=str(error))
        return 2
    except (Unavailable, TooManyDeadLetters, OSError) as error:
        log.error("indexer_gives_up", error=str(error))
        return 1
    log.info("indexer_stopped")
    return 0


def main() -> None:
    """Read the settings and serve until SIGTERM."""
    settings = Settings()
    configure_logging(settings, "indexer")
    flush_spans = configure_tracing(settings, "indexer")
    code = asyncio.run(_serve(settings))
    flush_spans()
    sys.exit(code)


if __name__ == "__main__":
    main()
