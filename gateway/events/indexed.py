"""The position up to which the index has the events. A stream from there on continues a list that was read later."""

import asyncio

import structlog
from aiokafka import TopicPartition
from aiokafka.admin import AIOKafkaAdminClient

from gateway.events.listeners import Listeners
from gateway.events.position import Position
from shared.kafka.producer import client_options
from shared.retry import Backoff
from shared.settings import Settings, Topic

log = structlog.get_logger()

POLL_SECONDS = 0.5
"""The indexer commits as often. An older position is right too: a stream from there repeats more events."""
QUIET_POLLS = 10
"""Polls that are left out while the index has all events that this gateway has read: a later position says no more."""
REQUEST_TIMEOUT_MS = 5_000
FIRST_PAUSE = 0.5
LONGEST_PAUSE = 5.0


class IndexedPosition:
    """The position that the indexer's group has committed in the topic of events.

    The indexer commits a position when Cassandra has acknowledged the rows of all events below it. So a later read of
    the index shows these events, and a stream from this position on has all others. The position is read in the
    background, because lists must not wait for Kafka. While Kafka is unavailable the last one stays: a stream from an
    older position repeats events, and misses none.
    """

    def __init__(self, settings: Settings, listeners: Listeners) -> None:
        self._settings = settings
        self._topic = settings.topic(Topic.EVENTS)
        self._listeners = listeners
        self._text: str | None = None

    def __call__(self) -> str | None:
        """The position as the `id` of an event; None until it is known."""
        return self._text

    async def run(self) -> None:
        """Read the position until cancelled. Every error is logged, and the next try connects again."""
        backoff = Backoff(FIRST_PAUSE, LONGEST_PAUSE)
        while True:
            try:
                await self._follow(backoff)
            except Exception as error:
                # Also after an unexpected error: without further tries the position would stay as it is.
                log.warning("indexed_position_not_read", error=f"{type(error).__name__}: {error}")
            await asyncio.sleep(backoff.next_pause())

    async def _follow(self, backoff: Backoff) -> None:
        admin = AIOKafkaAdminClient(**client_options(self._settings), request_timeout_ms=REQUEST_TIMEOUT_MS)
        try:
            await admin.start()
            left_out = QUIET_POLLS
            while True:
                left_out += 1
                if left_out > QUIET_POLLS or not self._is_complete:
                    await self._read(admin)
                    backoff.reset()
                    left_out = 0
                await asyncio.sleep(POLL_SECONDS)
        finally:
            await admin.close()

    @property
    def _is_complete(self) -> bool:
        """Whether the index has all events that this gateway has read."""
        ring = self._listeners.ring
        return ring is not None and self._text == ring.position

    async def _read(self, admin: AIOKafkaAdminClient) -> None:
        ring = self._listeners.ring
        if ring is None:
            return
        found = await admin.list_consumer_group_offsets(self._settings.indexer_group)
        places = (TopicPartition(self._topic, number) for number in range(len(ring.next_offsets)))
        # The group has no position in a partition from which it has read nothing: the index has none of its events.
        offsets = (max(0, found[place].offset) if place in found else 0 for place in places)
        self._text = str(Position(self._settings.epoch, tuple(offsets)))
