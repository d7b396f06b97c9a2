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
from shared.consuming.dead_letters import DeadLetterLimit, TooManyDeadLetters
from shared.consuming.retry import Patience
from shared.errors import ConfigurationError, Unavailable
from shared.kafka.producer import Producer
from shared.kafka.topics import require_topics
from shared.kafka.writers import KafkaCommandLog, KafkaDeadLetters
from shared.observability.health import InternalServer, Progress
from shared.observability.logs import configure_logging
from shared.observability.metrics import Service
from shared.observability.tracing import configure_tracing
from shared.settings import Settings

log = structlog.get_logger()

STALL_LIMIT = timedelta(minutes=2)
"""Work waits and nothing advances: well above the patience with an outage and a drain, after which the process ends."""


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
            epoch=settings.epoch,
            shards=settings.day_shards,
            concurrency=settings.indexer_concurrency,
            fence=fence,
        )
        names = {topic: settings.topic(topic) for topic in TOPICS}
        delivery = Delivery(
            handler,
            KafkaDeadLetters(producer, settings),
            DeadLetterLimit(settings.dlq_limit_per_minute),
            topic_names=names,
            epoch=settings.epoch,
            patience=settings.outage_patience,
            attempts=settings.unforeseen_attempts,
        )
        topics = {name: topic for topic, name in names.items()}
        client = kafka_consumer(settings)
        consumer = Consumer(client, topics, delivery.deliver, progress, settings.outage_patience)
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
    patience = Patience(settings.outage_patience)
    try:
        while True:
            try:
                await index.connect(settings)
                break
            except Unavailable as error:
                await patience.pause(error)
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
