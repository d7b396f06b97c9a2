"""Brings each record to one of its ends: applied, skipped, dead-lettered, or the process stops (invariant 10)."""

import asyncio
import time
from collections.abc import Mapping
from datetime import timedelta

import structlog
from opentelemetry.trace import SpanKind

from indexer.handler import Barrier, ConsumedRecord, Handler
from shared.consuming.dead_letters import DeadLetterLimit, dead_letter_headers
from shared.consuming.retry import Patience
from shared.contract.events import Event, OwnerCleared
from shared.contract.headers import header
from shared.contract.keys import command_version
from shared.contract.logged_command import read_command
from shared.errors import PoisonRecord, Unavailable
from shared.observability import metrics, tracing
from shared.ports import DeadLetters
from shared.settings import Topic

log = structlog.get_logger()

SURPRISE_PAUSE_SECONDS = 0.1
UNREADABLE = "unreadable"


class Delivery:
    """The policy around `Handler`.

    1. An engine is away: again after a pause, until `patience` has passed since the first failure; then the error is
       raised, the record stays uncommitted and the process ends for its supervisor.
    2. A command nobody can read is counted and skipped: dead-lettering commands is the processor's. An event nobody
       can read goes to the DLQ.
    3. Any other error, after `attempts` tries: to the DLQ, whichever topic it came from.
    4. A DLQ that is over its limit, or away for longer than `patience`, stops the process as in 1.
    """

    def __init__(
        self,
        handler: Handler,
        dead_letters: DeadLetters,
        limit: DeadLetterLimit,
        *,
        topic_names: Mapping[Topic, str],
        epoch: int,
        patience: timedelta,
        attempts: int,
    ) -> None:
        self._handler = handler
        self._dead_letters = dead_letters
        self._limit = limit
        self._topic_names = topic_names
        self._epoch = epoch
        self._patience = patience
        self._attempts = attempts

    async def deliver(self, record: ConsumedRecord, lower_settled: Barrier) -> None:
        """Return when the record is settled. Raises Unavailable, TooManyDeadLetters: the process must stop."""
        started = time.monotonic()
        place = _place(record) | self._identity(record)
        kind = str(place.get("type", UNREADABLE))
        parent = tracing.continued(header(record.headers, tracing.TRACEPARENT))
        with (
            structlog.contextvars.bound_contextvars(**place),
            tracing.span(f"apply {kind}", place, kind=SpanKind.CONSUMER, parent=parent),
        ):
            result = await self._deliver(record, lower_settled)
            seconds = time.monotonic() - started
            log.info("record_done", result=result, seconds=round(seconds, 3))
        metrics.RECORD_SECONDS.labels(record.topic.value).observe(seconds)
        metrics.RECORDS.labels(record.topic.value, kind, result).inc()
        if record.appended_at is not None:
            metrics.DELAY_SECONDS.labels(record.topic.value).observe(max(0.0, time.time() - record.appended_at))

    def _identity(self, record: ConsumedRecord) -> dict[str, str | int]:
        """What the record is about, for logs and traces; nothing where nobody can read it."""
        try:
            content = record.content(self._epoch)
        except PoisonRecord:
            return {}
        if content is None:
            return {}
        said = content if isinstance(content, Event) else content.command
        found: dict[str, str | int] = {"type": said.type, "owner": said.owner.key, "version": str(content.version)}
        if not isinstance(said, OwnerCleared):
            found["image_id"] = str(said.image_id)
        return found

    async def _deliver(self, record: ConsumedRecord, lower_settled: Barrier) -> str:
        patience = Patience(self._patience)
        surprises = 0
        while True:
            try:
                await self._handler.handle(record, lower_settled)
                return "applied"
            except Unavailable as error:
                metrics.RETRIES.labels(error.engine).inc()
                log.warning("engine_away", error=str(error))
                await patience.pause(error)
            except PoisonRecord as error:
                if record.topic is Topic.COMMANDS:
                    log.warning("command_skipped", error=str(error))
                    return "skipped"
                await self._bury(record, error, surprises + 1)
                return "dead_lettered"
            except Exception as error:
                surprises += 1
                if surprises >= self._attempts:
                    await self._bury(record, error, surprises)
                    return "dead_lettered"
                metrics.RETRIES.labels("unforeseen").inc()
                log.exception("record_failed", attempt=surprises)
                await asyncio.sleep(SURPRISE_PAUSE_SECONDS * 2**surprises)

    async def _bury(self, record: ConsumedRecord, error: Exception, attempts: int) -> None:
        self._limit.take()
        headers = dead_letter_headers(
            record.headers,
            topic=self._topic_names[record.topic],
            partition=record.partition,
            offset=record.offset,
            version=self._first_version(record) if record.topic is Topic.COMMANDS else None,
            error=error,
            attempts=attempts,
        )
        log.error("record_dead_lettered", error=f"{type(error).__name__}: {error}")
        patience = Patience(self._patience)
        while True:
            try:
                await self._dead_letters.send(record.key, record.value, headers)
                reason = UNREADABLE if isinstance(error, PoisonRecord) else "unforeseen"
                metrics.DEAD_LETTERS.labels(reason).inc()
                return
            except Unavailable as outage:
                metrics.RETRIES.labels(outage.engine).inc()
                await patience.pause(outage)

    def _first_version(self, record: ConsumedRecord) -> int:
        """Version of a command, which it keeps however often it is redriven."""
        try:
            return read_command(record, self._epoch).version
        except PoisonRecord:
            # What nobody can read has the version of its place.
            return command_version(self._epoch, record.offset)


def _place(record: ConsumedRecord) -> dict[str, str | int]:
    return {"topic": record.topic.value, "partition": record.partition, "offset": record.offset}
