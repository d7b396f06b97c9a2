"""Reads the topic of events, without a consumer group, for the listeners, waiting requests and caches of a gateway."""

import asyncio
import time
from collections.abc import Callable
from datetime import timedelta

import structlog
from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import OffsetOutOfRangeError

from gateway.events.listeners import Listeners
from gateway.events.ring import Ring
from shared.contract.encoding import decode_event
from shared.contract.events import Event
from shared.errors import PoisonRecord, Unavailable
from shared.kafka.producer import client_options
from shared.kafka.record_batches import accept_any_header_name
from shared.retry import Backoff
from shared.settings import Settings, Topic

log = structlog.get_logger()

POLL_MS = 1_000
MAX_RECORDS = 500
"""Records of one poll: so many are decoded before other requests get the event loop again."""
FIRST_PAUSE = 0.5
LONGEST_PAUSE = 5.0


class Reader:
    """Fills a ring with the events of the last `events_buffer_time` and follows the topic from there.

    After an outage of Kafka it goes on where it was, so that listeners miss nothing.
    """

    def __init__(self, settings: Settings, listeners: Listeners, arrived: Callable[[Event], None]) -> None:
        """`arrived` is called for each event. It must neither block nor raise."""
        self._arrived = arrived
        self._settings = settings
        self._topic = settings.topic(Topic.EVENTS)
        self._listeners = listeners
        self._ring: Ring | None = None

    async def run(self) -> None:
        """Read until cancelled. Every error is logged, and the reader connects again."""
        backoff = Backoff(FIRST_PAUSE, LONGEST_PAUSE)
        while True:
            started = time.monotonic()
            try:
                await self._read()
            except OffsetOutOfRangeError as error:
                log.warning("events_not_read", error=f"the log no longer has the next event: {error}")
                self._ring = None
            except Exception as error:
                # Also after an unexpected error: without further tries this gateway would have no live events.
                log.warning("events_not_read", error=f"{type(error).__name__}: {error}")
            if time.monotonic() - started > LONGEST_PAUSE:
                backoff.reset()
            await asyncio.sleep(backoff.next_pause())

    async def _read(self) -> None:
        accept_any_header_name()
        consumer = AIOKafkaConsumer(
            **client_options(self._settings), group_id=None, enable_auto_commit=False, auto_offset_reset="none"
        )
        await consumer.start()
        try:
            places = await self._places(consumer)
            consumer.assign(places)
            ring = self._ring
            if ring is None or len(ring.next_offsets) != len(places):
                ring = await self._filled(consumer, places)
            for place, offset in zip(places, ring.next_offsets, strict=True):
                consumer.seek(place, offset)
            self._ring = ring
            self._listeners.open(ring)
            while True:
                await self._poll(consumer, ring)
        finally:
            await consumer.stop()

    async def _places(self, consumer: AIOKafkaConsumer) -> list[TopicPartition]:
        if self._topic not in await consumer.topics():
            raise Unavailable("kafka", f"topic {self._topic} does not exist")
        # aiokafka knows the partitions only of topics that it reads. A request for an offset waits until it knows them.
        first = TopicPartition(self._topic, 0)
        consumer.assign([first])
        await consumer.end_offsets([first])
        partitions: set[int] = consumer.partitions_for_topic(self._topic)
        return [TopicPartition(self._topic, number) for number in sorted(partitions)]

    async def _filled(self, consumer: AIOKafkaConsumer, places: list[TopicPartition]) -> Ring:
        """A ring of the recent events, read up to the present end of the topic."""
        age: timedelta = self._settings.events_buffer_time
        since = int((time.time() - age.total_seconds()) * 1000)
        ends = await consumer.end_offsets(places)
        found = await consumer.offsets_for_times(dict.fromkeys(places, since))
        starts = [found[place].offset if found.get(place) else ends[place] for place in places]
        ring = Ring(
            self._settings.epoch, starts, max_bytes=self._settings.events_buffer_memory, max_age=age.total_seconds()
        )
        for place, start in zip(places, starts, strict=True):
            consumer.seek(place, start)
        # By the consumer's position, because compaction may have removed the last records before the end.
        while [place for place in places if await consumer.position(place) < ends[place]]:
            await self._poll(consumer, ring)
        return ring

    async def _poll(self, consumer: AIOKafkaConsumer, ring: Ring) -> None:
        batches = await consumer.getmany(timeout_ms=POLL_MS, max_records=MAX_RECORDS)
        for place, records in batches.items():
            for record in records:
                try:
                    event = decode_event(record.value)
                except PoisonRecord:
                    # Nulls of the compaction, and what another client has written: consumers skip the same.
                    ring.skip(place.partition, record.offset)
                else:
                    self._listeners.published(ring.append(place.partition, record.offset, event, record.value))
                    self._arrived(event)
