"""Brings each record to one of its ends: answered, dead-lettered, or the process stops (invariant 10)."""

import asyncio
import time
from dataclasses import dataclass
from datetime import timedelta

import structlog
from opentelemetry.trace import SpanKind

from processor.handler import Handler
from processor.stages import collected
from shared.consuming.dead_letters import DeadLetterLimit, dead_letter_headers
from shared.consuming.retry import Patience
from shared.contract.events import Ready, Reprocess
from shared.contract.headers import ReceivedHeaders, header
from shared.contract.keys import command_version
from shared.contract.logged_command import LoggedCommand, LoggedFence, read_command
from shared.errors import PoisonRecord, Unavailable
from shared.observability import metrics, tracing
from shared.ports import DeadLetters

log = structlog.get_logger()

SURPRISE_PAUSE_SECONDS = 0.2
POISON = "poison"
READY = Ready.model_fields["type"].default
REPROCESS = Reprocess.model_fields["type"].default


@dataclass(frozen=True)
class Received:
    """A record as it lies in the commands topic. `appended_at` in seconds since 1970, None where it does not tell."""

    partition: int
    offset: int
    key: bytes | None
    value: bytes | None
    headers: ReceivedHeaders
    appended_at: float | None = None


@dataclass(frozen=True)
class Task:
    """A record and what it says: a command, or why nobody can read it; `version` is there either way."""

    record: Received
    content: LoggedCommand | PoisonRecord
    version: int

    @property
    def kind(self) -> str:
        """The command's type, or `poison`."""
        return POISON if isinstance(self.content, PoisonRecord) else self.content.command.type


def parse(record: Received, epoch: int) -> Task:
    """What a record says. Never raises: a record that cannot be read is a task for the DLQ."""
    try:
        logged = read_command(record, epoch)
        return Task(record, logged, logged.version)
    except PoisonRecord as error:
        return Task(record, error, command_version(epoch, record.offset))


class Delivery:
    """The policy around `Handler`.

    1. An engine is away: again after a pause, until `patience` has passed since the first failure; then the error is
       raised, the record stays unsettled and the process ends for its supervisor. Never the DLQ for an outage.
    2. A command nobody can read goes to the DLQ at once.
    3. Any other error goes there after `attempts` tries.
    4. A DLQ that is over its limit, or away for longer than `patience`, stops the process as in 1.
    """

    def __init__(
        self,
        handler: Handler,
        dead_letters: DeadLetters,
        limit: DeadLetterLimit,
        *,
        topic_name: str,
        patience: timedelta,
        attempts: int,
    ) -> None:
        self._handler = handler
        self._dead_letters = dead_letters
        self._limit = limit
        self._topic_name = topic_name
        self._patience = patience
        self._attempts = attempts

    async def deliver(self, task: Task) -> None:
        """Return when the record may be settled. Raises Unavailable, TooManyDeadLetters: the process must stop."""
        # The trace that the record carries, whichever command has started this task.
        parent = tracing.continued(header(task.record.headers, tracing.TRACEPARENT))
        place = _place(task)
        with (
            structlog.contextvars.bound_contextvars(**place),
            tracing.span(f"handle {task.kind}", place, kind=SpanKind.CONSUMER, parent=parent),
        ):
            await self._deliver(task)

    async def _deliver(self, task: Task) -> None:
        started = time.monotonic()
        waited = _age(task.record)
        if waited is not None:
            metrics.QUEUE_SECONDS.observe(waited)
        with collected() as stages:
            if isinstance(task.content, PoisonRecord):
                outcome = await self._bury(task, task.content, 1)
            else:
                outcome = await self._handle(task, task.content)
        seconds = time.monotonic() - started
        metrics.COMMANDS.labels(task.kind, outcome).inc()
        metrics.COMMAND_SECONDS.labels(task.kind).observe(seconds)
        if outcome == READY and "render" in stages and task.kind != REPROCESS:
            # Not for what a replay or a redelivery only told again: that was ready long ago.
            metrics.READY_SECONDS.observe(_age(task.record) or seconds)
        log.info(
            "command_done",
            outcome=outcome,
            queued_seconds=None if waited is None else round(waited, 3),
            seconds=round(seconds, 3),
            stages={name: round(spent, 3) for name, spent in stages.items()},
        )

    async def _handle(self, task: Task, logged: LoggedCommand) -> str:
        patience = Patience(self._patience)
        surprises = 0
        while True:
            try:
                event = await self._handler.handle(logged)
                return event.type if event else "fence"
            except Unavailable as error:
                metrics.RETRIES.labels(error.engine).inc()
                log.warning("engine_away", error=str(error))
                await patience.pause(error)
            except PoisonRecord as error:
                return await self._bury(task, error, surprises + 1)
            except Exception as error:
                surprises += 1
                if surprises >= self._attempts:
                    return await self._bury(task, error, surprises)
                metrics.RETRIES.labels("unforeseen").inc()
                log.exception("command_surprised", attempt=surprises)
                await asyncio.sleep(SURPRISE_PAUSE_SECONDS * 2**surprises)

    async def _bury(self, task: Task, error: Exception, attempts: int) -> str:
        self._limit.take()
        record = task.record
        headers = dead_letter_headers(
            record.headers,
            topic=self._topic_name,
            partition=record.partition,
            offset=record.offset,
            version=task.version,
            error=error,
            attempts=attempts,
        )
        log.error("command_dead_lettered", error=f"{type(error).__name__}: {error}")
        patience = Patience(self._patience)
        while True:
            try:
                await self._dead_letters.send(record.key, record.value, headers)
                reason = "unreadable" if isinstance(error, PoisonRecord) else "unforeseen"
                metrics.DEAD_LETTERS.labels(reason).inc()
                return "dead_lettered"
            except Unavailable as outage:
                metrics.RETRIES.labels(outage.engine).inc()
                await patience.pause(outage)


def _age(record: Received) -> float | None:
    """Seconds since the record was appended, by the brokers' clock and ours."""
    return None if record.appended_at is None else max(0.0, time.time() - record.appended_at)


def _place(task: Task) -> dict[str, str | int]:
    """What names the command in logs and traces."""
    place: dict[str, str | int] = {
        "type": task.kind,
        "version": str(task.version),
        "partition": task.record.partition,
        "offset": task.record.offset,
    }
    if not isinstance(task.content, PoisonRecord):
        place["owner"] = task.content.command.owner.key
        if not isinstance(task.content, LoggedFence):
            place["image_id"] = str(task.content.command.image_id)
    return place
