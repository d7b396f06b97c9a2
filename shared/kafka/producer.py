"""The connection to Kafka: an idempotent producer, and what it takes to know whether a record is in the log."""

import asyncio
import contextlib
from collections.abc import Iterable
from datetime import timedelta
from typing import Any

import structlog
from aiokafka import AIOKafkaProducer
from aiokafka.errors import KafkaError, MessageSizeTooLargeError

from shared.contract.headers import Headers
from shared.errors import PoisonRecord, Unavailable, UnknownOutcome
from shared.ports import Appended
from shared.security import explain_kafka, kafka_security
from shared.settings import MIB, Settings

log = structlog.get_logger()

LOG_APPEND_TIME = 1
"""Kafka's timestamp type of a record whose time the broker sets."""
HANGING_SECONDS = 5.0
"""A broker that has not answered for so long is taken to hang: others are asked who leads now (a new leader is elected
6 to 9 s after the old one fell silent), so that the ack comes within KAFKA_SEND_TIMEOUT. The batch keeps its sequence
number, and is in the log once."""
FLUSH_SECONDS = 5.0
"""A producer that ends may take so long to get rid of what it has."""
DISCONNECT_SECONDS = 1.0
"""The same for its connections, where it could not."""
POLL_INTERVAL = timedelta(days=7)
"""The poll interval of our consumers, so long that it is no limit (ADR 10).

A consumer is not dead because its records take long; `shared.observability.health` detects one that is. At the limit
aiokafka leaves the group and joins again only when it is asked for records. Faust asks for none before it has joined,
so the consumer would never join again.
"""
METADATA_MAX_AGE_MS = 10_000
"""Who leads which partition is asked at least so often. aiokafka asks when most requests fail, but not when it looks up
where a partition without a committed position begins: it would go on with a broker that leads no longer until what it
knows was five minutes old."""
MAX_RECORD_BYTES = 2 * MIB
"""More than topics take by default (1 MiB): a record that just fitted still fits into the DLQ with its new headers."""


def client_options(settings: Settings) -> dict[str, Any]:
    """Arguments that every aiokafka client of ours takes. Raises ConfigurationError."""
    return {
        "bootstrap_servers": settings.kafka_bootstrap_servers.split(","),
        "metadata_max_age_ms": METADATA_MAX_AGE_MS,
        **kafka_security(settings),
    }


class Producer:
    """An idempotent producer (`acks=all`) that bounds each write and replaces itself when it is broken.

    1. aiokafka never expires an idempotent batch, so each write has a deadline of its own, connecting included. After
       it the outcome is unknown: the batch may still go out. Callers reuse their ids and never assume that it did not.
    2. A batch that fails for good breaks the sequence, and later writes of that producer with it. So after any failure
       the producer is closed without flushing and the next write starts a new one.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._options = client_options(settings)
        self._timeout = settings.kafka_send_timeout.total_seconds()
        self._producer: AIOKafkaProducer | None = None
        self._connecting: asyncio.Task[AIOKafkaProducer] | None = None

    async def start(self) -> None:
        """Connect. Raises Unavailable."""
        await self._connected()

    async def close(self) -> None:
        """Flush what is under way and disconnect, in bounded time."""
        if self._connecting is not None:
            self._connecting.cancel()
            await asyncio.wait({self._connecting})
        producer, self._producer = self._producer, None
        if producer is not None:
            await _abandon(producer)

    async def partitions(self, topic: str) -> int:
        """Number of partitions of a topic. Raises Unavailable."""
        try:
            async with asyncio.timeout(self._timeout):
                producer = await self._connected()
                found = await producer.partitions_for(topic)
        except (KafkaError, TimeoutError) as error:
            raise Unavailable("kafka", f"no metadata of {topic}: {error!r}") from error
        if not found:
            raise Unavailable("kafka", f"topic {topic} does not exist: create the topics first")
        return len(found)

    async def check(self, topics: Iterable[str]) -> None:
        """Return if a broker answers now and knows these topics; raises Unavailable. Unlike partitions(), asks anew."""
        try:
            async with asyncio.timeout(self._timeout):
                producer = await self._connected()
                cluster = await producer.client.fetch_all_metadata()
        except (KafkaError, TimeoutError) as error:
            raise Unavailable("kafka", f"no metadata: {error!r}") from error
        missing = [topic for topic in topics if not cluster.partitions_for_topic(topic)]
        if missing:
            raise Unavailable("kafka", f"no such topics: {', '.join(missing)}. Create the topics first")

    async def send(
        self, topic: str, value: bytes | None, *, key: bytes | None, headers: Headers, partition: int | None = None
    ) -> Appended:
        """Write a record and wait until all in-sync replicas have it.

        Raises Unavailable where there is no connection, UnknownOutcome where there is no ack, both by one deadline;
        PoisonRecord when it is larger than the brokers take.
        """
        deadline = asyncio.get_running_loop().time() + self._timeout
        try:
            async with asyncio.timeout_at(deadline):
                producer = await self._connected()
        except TimeoutError as error:
            raise Unavailable("kafka", f"not connected within {self._timeout:g} s") from error
        pending: asyncio.Future[Any] | None = None
        try:
            async with asyncio.timeout_at(deadline):
                pending = await producer.send(topic, value, key=key, headers=headers, partition=partition)
                answer = await pending
        except MessageSizeTooLargeError as error:
            # Refused by the broker, and not already by the client: the sequence has a gap now.
            if pending is not None:
                self._discard(producer)
            raise PoisonRecord(f"record for {topic} is too large: {error}") from error
        except TimeoutError as error:
            self._discard(producer)
            raise UnknownOutcome("kafka", f"no ack for {topic} within {self._timeout:g} s") from error
        except KafkaError as error:
            self._discard(producer)
            raise UnknownOutcome("kafka", f"{topic}: {error!r}") from error
        return Appended(answer.partition, answer.offset if _has_offset(answer) else None)

    async def _connected(self) -> AIOKafkaProducer:
        """Connect once, however many wait for it, and whoever of them gives up. Raises Unavailable."""
        if self._producer is not None:
            return self._producer
        connecting = self._connecting
        if connecting is None:
            connecting = self._connecting = asyncio.create_task(self._connect())
            connecting.add_done_callback(self._settle)
        await asyncio.wait({connecting})
        if connecting.cancelled():
            raise Unavailable("kafka", "closed while connecting")
        return connecting.result()

    def _settle(self, connecting: asyncio.Task[AIOKafkaProducer]) -> None:
        self._connecting = None
        if not connecting.cancelled():
            # Nobody may be left to be told.
            connecting.exception()

    async def _connect(self) -> AIOKafkaProducer:
        producer = AIOKafkaProducer(
            **self._options,
            acks="all",
            enable_idempotence=True,
            request_timeout_ms=int(1000 * min(self._timeout, HANGING_SECONDS)),
            linger_ms=0,
            max_request_size=MAX_RECORD_BYTES,
        )
        try:
            async with asyncio.timeout(self._timeout):
                await producer.start()
            self._producer = producer
        except (KafkaError, TimeoutError, OSError) as error:
            reason = await explain_kafka(self._settings)
            raise Unavailable("kafka", f"cannot connect: {error!r}; {reason}") from error
        finally:
            if self._producer is not producer:
                # Half-started it would go on trying.
                await _abandon(producer)
        return producer

    def _discard(self, producer: AIOKafkaProducer) -> None:
        """Replace a producer whose sequence may be broken; writes that others have under way on it fail too."""
        if self._producer is producer:
            self._producer = None
            log.warning("kafka_producer_replaced")
            _abandon_later(producer)


_abandoned: set[asyncio.Future[None]] = set()
"""References that keep closing tasks alive until they are done."""


def _abandon_later(producer: AIOKafkaProducer) -> None:
    task = asyncio.ensure_future(_abandon(producer))
    _abandoned.add(task)
    task.add_done_callback(_abandoned.discard)


async def _abandon(producer: AIOKafkaProducer) -> None:
    try:
        async with asyncio.timeout(FLUSH_SECONDS):
            await producer.stop()
    except (TimeoutError, KafkaError):
        # stop() flushes first, which never ends while a broker is away: end the sender, or it would retry for ever.
        # It waits for its requests, which end with their connections.
        with contextlib.suppress(TimeoutError, KafkaError):
            async with asyncio.timeout(DISCONNECT_SECONDS):
                await asyncio.gather(producer._sender.close(), producer.client.close())


def _has_offset(answer: Any) -> bool:
    """Whether an ack says where the record lies.

    A broker that saw the batch before, and has forgotten where it put it, acks it without an offset. aiokafka then
    counts the batch's records from -1, so that the second one seems to lie at 0. What gives it away is that the append
    time is missing, which the topics whose offsets matter (LogAppendTime) always tell.
    """
    return bool(answer.offset >= 0 and answer.timestamp_type == LOG_APPEND_TIME)
