"""Parses records of the commands topic and delivers them to the handler, with logs, metrics and traces."""

import time
from dataclasses import dataclass

import structlog
from opentelemetry.trace import SpanKind

from processor.handler import Handler
from processor.stages import collected
from shared.consuming.delivery import DeliveryPolicy
from shared.consuming.record import ConsumedRecord
from shared.contract.events import Ready, Reprocess
from shared.contract.headers import header
from shared.contract.keys import command_version
from shared.contract.logged_command import LoggedCommand, LoggedFence, read_command
from shared.errors import PoisonRecord
from shared.observability import metrics, tracing

log = structlog.get_logger()

POISON = "poison"
READY = Ready.model_fields["type"].default
REPROCESS = Reprocess.model_fields["type"].default


@dataclass(frozen=True)
class Task:
    """A record with its parsed command, or with the error why it cannot be parsed. It has a version in both cases."""

    record: ConsumedRecord
    content: LoggedCommand | PoisonRecord
    version: int

    @property
    def kind(self) -> str:
        """The command's type, or `poison`."""
        return POISON if isinstance(self.content, PoisonRecord) else self.content.command.type


def parse(record: ConsumedRecord, epoch: int) -> Task:
    """Parse a record. Never raises: a record that cannot be parsed gives a task that goes to the DLQ."""
    try:
        logged = read_command(record, epoch)
        return Task(record, logged, logged.version)
    except PoisonRecord as error:
        return Task(record, error, command_version(epoch, record.offset))


class Delivery:
    """Passes commands to the handler under the delivery policy. A record that cannot be parsed goes to the DLQ."""

    def __init__(self, handler: Handler, policy: DeliveryPolicy) -> None:
        self._handler = handler
        self._policy = policy

    async def deliver(self, task: Task) -> None:
        """Return when the record may be settled.

        Raises Unavailable and TooManyDeadLetters; the process must then stop.
        """
        # The parent is the trace in the record. The current trace may be that of the command before in this lane.
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
            outcome = await self._policy.deliver(task.record, task.version, lambda: self._handle(task))
        seconds = time.monotonic() - started
        metrics.COMMANDS.labels(task.kind, outcome).inc()
        metrics.COMMAND_SECONDS.labels(task.kind).observe(seconds)
        if outcome == READY and "render" in stages and task.kind != REPROCESS:
            # Only new renders count. A redelivered or redriven command may repeat the answer of an old render.
            metrics.READY_SECONDS.observe(_age(task.record) or seconds)
        log.info(
            "command_done",
            outcome=outcome,
            queued_seconds=None if waited is None else round(waited, 3),
            seconds=round(seconds, 3),
            stages={name: round(spent, 3) for name, spent in stages.items()},
        )

    async def _handle(self, task: Task) -> str:
        """Handle the command; returns the type of its answer, or `fence`, which has none. Raises PoisonRecord."""
        if isinstance(task.content, PoisonRecord):
            raise task.content
        event = await self._handler.handle(task.content)
        return event.type if event else "fence"


def _age(record: ConsumedRecord) -> float | None:
    """Seconds since the append, as the difference between the broker's clock and the local clock."""
    return None if record.appended_at is None else max(0.0, time.time() - record.appended_at)


def _place(task: Task) -> dict[str, str | int]:
    """Fields that identify the command in logs and traces."""
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
