"""The connection to Kafka: client options, and an idempotent producer that reports whether a record is in the log."""

import asyncio
import contextlib
from collections.abc import Iterable
from datetime import timedelta
from typing import Any

import structlog
from aiokafka import AIOKafkaProducer
from aiokafka.errors import KafkaError, MessageSizeTooLargeError

from shared.contract.headers import Headers
from shared.errors import RecordTooLarge, Unavailable, UnknownOutcome
from shared.ports import Appended
from shared.security import explain_kafka, kafka_security
from shared.settings import MIB, Settings

log = structlog.get_logger()

LOG_APPEND_TIME = 1
"""Kafka's timestamp type LogAppendTime: the broker sets the time of the record."""
HANGING_SECONDS = 5.0
"""Request time-out: the producer treats a broker that does not answer for so long as hanging. It then asks the other
brokers for the new leader and sends the batch again, so that the ack comes within KAFKA_SEND_TIMEOUT. A new leader is
elected 6 to 9 s after the old one stopped answering. The batch keeps its sequence number, so it is in the log once."""
FLUSH_SECONDS = 5.0
"""Time that a producer has at its end to send its last records."""
DISCONNECT_SECONDS = 1.0
"""Time to close its connections, if it could not send them."""
POLL_INTERVAL = timedelta(days=7)
"""The poll interval of our consumers, so long that it never expires (ADR 10).

A consumer that handles a record for a long time is not dead; `shared.observability.health` detects a dead one. When the
interval expires, aiokafka leaves the group, and joins again only when the application polls for records. Faust does not
poll before it has joined, so the consumer would never join again.
"""
METADATA_MAX_AGE_MS = 10_000
"""Interval at which a client asks for the leaders of the partitions. aiokafka also asks when most requests fail, but
not when it looks up the first offset of a partition without a committed position. With its default of five minutes it
would send that request to the old leader for up to five minutes."""
MAX_RECORD_BYTES = 2 * MIB
"""Maximum size of a record in the DLQ. It is above the default of the other topics (1 MiB), so that a record of their
maximum size fits into the DLQ with its additional headers."""


def client_options(settings: Settings) -> dict[str, Any]:
    """Arguments of all our aiokafka clients. Raises ConfigurationError."""
    return {
        "bootstrap_servers": settings.kafka_bootstrap_servers.split(","),
        "metadata_max_age_ms": METADATA_MAX_AGE_MS,
        **kafka_security(settings),
    }


class Producer:
    """An idempotent producer (`acks=all`) with a deadline for each write. After a failure it starts a new connection.

    1. aiokafka never expires an idempotent batch, so each write has its own deadline, which includes connecting. After
       the deadline the outcome is unknown: aiokafka may still send the batch. Callers repeat the write with the same
       ids and never assume that the record is not in the log.
    2. A batch that fails permanently leaves a gap in the sequence numbers, and all later writes of that producer fail.
       So after any failure this class replaces the producer; the next write starts a new one.
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
        """Send the remaining records and disconnect, within FLUSH_SECONDS and DISCONNECT_SECONDS."""
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
            raise Unavailable("kafka", f"topic {topic} does not exist: create it with `imagepipe topics apply`")
        return len(found)

    async def check(self, topics: Iterable[str]) -> None:
        """Return if a broker answers now and has these topics. Raises Unavailable.

        Unlike `partitions` this method sends a request each time.
        """
        try:
            async with asyncio.timeout(self._timeout):
                producer = await self._connected()
                cluster = await producer.client.fetch_all_metadata()
        except (KafkaError, TimeoutError) as error:
            raise Unavailable("kafka", f"no metadata: {error!r}") from error
        missing = [topic for topic in topics if not cluster.partitions_for_topic(topic)]
        if missing:
            names = ", ".join(missing)
            raise Unavailable("kafka", f"missing topics: {names}. Create them with `imagepipe topics apply`")

    async def send(
        self, topic: str, value: bytes | None, *, key: bytes | None, headers: Headers, partition: int | None = None
    ) -> Appended:
        """Write a record and wait until all in-sync replicas have it.

        Raises Unavailable if there is no connection, and UnknownOutcome if there is no ack, both within
        KAFKA_SEND_TIMEOUT. Raises RecordTooLarge if the record is larger than the brokers accept.
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
            # If the broker refused the record, and not the client, the sequence numbers have a gap now.
            if pending is not None:
                self._discard(producer)
            raise RecordTooLarge(f"record for {topic} is too large: {error}") from error
        except TimeoutError as error:
            self._discard(producer)
            raise UnknownOutcome("kafka", f"no ack for {topic} within {self._timeout:g} s") from error
        except KafkaError as error:
            self._discard(producer)
            raise UnknownOutcome("kafka", f"{topic}: {error!r}") from error
        return Appended(answer.partition, answer.offset if _has_offset(answer) else None)

    async def _connected(self) -> AIOKafkaProducer:
        """Connect once for all callers that wait for it. A caller that is cancelled does not stop it.

        Raises Unavailable.
        """
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
            # All callers may be cancelled. Reading the error keeps asyncio from logging it as never retrieved.
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
                # A producer that is not fully started would continue to connect.
                await _abandon(producer)
        return producer

    def _discard(self, producer: AIOKafkaProducer) -> None:
        """Replace a producer whose sequence numbers may have a gap. Its other running writes fail too."""
        if self._producer is producer:
            self._producer = None
            log.warning("kafka_producer_replaced")
            _abandon_later(producer)


_abandoned: set[asyncio.Future[None]] = set()
"""Tasks that close producers. asyncio keeps only weak references to tasks, so this set keeps them alive."""


def _abandon_later(producer: AIOKafkaProducer) -> None:
    task = asyncio.ensure_future(_abandon(producer))
    _abandoned.add(task)
    task.add_done_callback(_abandoned.discard)


async def _abandon(producer: AIOKafkaProducer) -> None:
    try:
        async with asyncio.timeout(FLUSH_SECONDS):
            await producer.stop()
    except (TimeoutError, KafkaError):
        # stop() sends all remaining records first, which does not end while a broker is unavailable. Close the sender
        # instead, so that it does not retry permanently. Closing it waits for its requests; closing the connections
        # ends these.
        with contextlib.suppress(TimeoutError, KafkaError):
            async with asyncio.timeout(DISCONNECT_SECONDS):
                await asyncio.gather(producer._sender.close(), producer.client.close())


def _has_offset(answer: Any) -> bool:
    """Whether an ack contains the offset of the record.

    A broker that has received the batch before, and no longer knows its offset, sends an ack without an offset.
    aiokafka then counts the records of the batch from -1, so that the second record seems to have offset 0. Such an ack
    has no append time either, which topics with LogAppendTime always return.
    """
    return bool(answer.offset >= 0 and answer.timestamp_type == LOG_APPEND_TIME)
