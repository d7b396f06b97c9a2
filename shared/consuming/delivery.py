"""The delivery policy of both consumers: retry a record, dead-letter it, or stop the process (invariant 10)."""

from asyncio import sleep
from collections.abc import Awaitable, Callable
from datetime import timedelta
from typing import Self

import structlog

from shared.consuming.dead_letters import DeadLetterLimit, dead_letter_headers
from shared.consuming.record import ConsumedRecord
from shared.errors import PoisonRecord, RecordTooLarge, Unavailable
from shared.observability import metrics
from shared.ports import DeadLetters
from shared.retry import Backoff, RetryDeadline
from shared.settings import Settings, Topic

log = structlog.get_logger()

DEAD_LETTERED = "dead_lettered"
"""Outcome of a record that was written to the DLQ."""
FIRST_PAUSE_SECONDS = 0.2
LONGEST_PAUSE_SECONDS = 2.0
"""Pauses between attempts after an unexpected error. During a pause the lane or the partition of the record waits."""


class DeliveryPolicy:
    """Handles a record until it is settled, or raises the error that stops the process.

    1. While an engine is unavailable, the policy retries the record after growing pauses until `outage_retry_limit` has
       passed since the first failure. Then it raises the error. The record stays uncommitted, the process ends, and its
       supervisor starts it again. An outage never sends a record to the DLQ.
    2. A record that cannot be parsed goes to the DLQ at once.
    3. After any other error the policy retries the record. After `unexpected_error_attempts` attempts the record goes
       to the DLQ.
    4. If there are too many dead letters, or if the DLQ is unavailable for longer than `outage_retry_limit`, the
       process stops as in 1.
    """

    def __init__(
        self,
        dead_letters: DeadLetters,
        limit: DeadLetterLimit,
        *,
        topic_name: Callable[[Topic], str],
        outage_retry_limit: timedelta,
        unexpected_error_attempts: int,
    ) -> None:
        """`topic_name` returns the name of a topic in Kafka."""
        self._dead_letters = dead_letters
        self._limit = limit
        self._topic_name = topic_name
        self._outage_retry_limit = outage_retry_limit
        self._attempts = unexpected_error_attempts

    @classmethod
    def from_settings(cls, settings: Settings, dead_letters: DeadLetters) -> Self:
        """The policy that the settings describe."""
        return cls(
            dead_letters,
            DeadLetterLimit(settings.dlq_limit_per_minute),
            topic_name=settings.topic,
            outage_retry_limit=settings.outage_retry_limit,
            unexpected_error_attempts=settings.unexpected_error_attempts,
        )

    async def deliver(self, record: ConsumedRecord, version: int | None, handle: Callable[[], Awaitable[str]]) -> str:
        """Deliver a record; returns the result of `handle`, or DEAD_LETTERED. The record may then be settled.

        `handle` applies the record. The policy calls it again after a failure. It raises PoisonRecord if the record
        cannot be parsed. `version` goes into the DLQ with the record; it is None if the version is unknown.
        Raises Unavailable and TooManyDeadLetters; the process must then stop.
        """
        outage = RetryDeadline(self._outage_retry_limit)
        backoff = Backoff(FIRST_PAUSE_SECONDS, LONGEST_PAUSE_SECONDS)
        while True:
            try:
                return await handle()
            except Unavailable as error:
                await _pause(outage, error)
            except PoisonRecord as error:
                return await self._dead_letter(record, version, error, "unreadable", backoff.failures + 1)
            except RecordTooLarge as error:
                # What the record asks to be written is a pure function of it, so each attempt would be refused.
                return await self._dead_letter(record, version, error, "too_large", backoff.failures + 1)
            except Exception as error:
                pause = backoff.next_pause()
                if backoff.failures >= self._attempts:
                    return await self._dead_letter(record, version, error, "unexpected", backoff.failures)
                metrics.RETRIES.labels("unexpected").inc()
                log.exception("record_failed", attempt=backoff.failures)
                await sleep(pause)

    async def _dead_letter(
        self, record: ConsumedRecord, version: int | None, error: Exception, reason: str, attempts: int
    ) -> str:
        self._limit.take()
        headers = dead_letter_headers(
            record.headers,
            topic=self._topic_name(record.topic),
            partition=record.partition,
            offset=record.offset,
            version=version,
            error=error,
            attempts=attempts,
        )
        log.error("record_dead_lettered", error=f"{type(error).__name__}: {error}", reason=reason, attempts=attempts)
        outage = RetryDeadline(self._outage_retry_limit)
        while True:
            try:
                await self._dead_letters.send(record.key, record.value, headers)
            except Unavailable as unavailable:
                await _pause(outage, unavailable)
            else:
                metrics.DEAD_LETTERS.labels(reason).inc()
                return DEAD_LETTERED


async def _pause(outage: RetryDeadline, error: Unavailable) -> None:
    metrics.RETRIES.labels(error.engine).inc()
    log.warning("engine_unavailable", error=str(error))
    await outage.pause(error)
