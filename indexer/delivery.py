"""Delivers records of both topics to the handler under the delivery policy, with logs, metrics and traces."""

import time

import structlog
from opentelemetry.trace import SpanKind

from indexer.handler import Barrier, Content, Handler, parse
from shared.consuming.delivery import DeliveryPolicy
from shared.consuming.record import ConsumedRecord
from shared.contract.events import Event, OwnerCleared
from shared.contract.headers import header
from shared.contract.logged_command import LoggedCommand
from shared.errors import PoisonRecord
from shared.observability import metrics, tracing
from shared.settings import Topic

log = structlog.get_logger()

UNREADABLE = "unreadable"


class Delivery:
    """Passes records to the handler under the delivery policy. `epoch` is the epoch of the topics.

    The indexer skips a command that cannot be parsed, because the processor dead-letters it. The indexer itself
    dead-letters an event that cannot be parsed.
    """

    def __init__(self, handler: Handler, policy: DeliveryPolicy, *, epoch: int) -> None:
        self._handler = handler
        self._policy = policy
        self._epoch = epoch

    async def deliver(self, record: ConsumedRecord, lower_settled: Barrier) -> None:
        """Return when the record is settled. `lower_settled` waits for all lower offsets of the partition.

        Raises Unavailable and TooManyDeadLetters; the process must then stop.
        """
        started = time.monotonic()
        content = parse(record, self._epoch)
        place = _place(record, content)
        kind = str(place.get("type", UNREADABLE))
        parent = tracing.continued(header(record.headers, tracing.TRACEPARENT))
        with (
            structlog.contextvars.bound_contextvars(**place),
            tracing.span(f"apply {kind}", place, kind=SpanKind.CONSUMER, parent=parent),
        ):
            # The dead letter of a command needs the version, which comes from the offset. An event contains its
            # version.
            version = content.version if isinstance(content, LoggedCommand) else None
            result = await self._policy.deliver(record, version, lambda: self._handle(record, content, lower_settled))
            seconds = time.monotonic() - started
            log.info("record_done", result=result, seconds=round(seconds, 3))
        metrics.RECORD_SECONDS.labels(record.topic.value).observe(seconds)
        metrics.RECORDS.labels(record.topic.value, kind, result).inc()
        if record.appended_at is not None:
            metrics.DELAY_SECONDS.labels(record.topic.value).observe(max(0.0, time.time() - record.appended_at))

    async def _handle(self, record: ConsumedRecord, content: Content | PoisonRecord, lower_settled: Barrier) -> str:
        try:
            if isinstance(content, PoisonRecord):
                raise content
            await self._handler.handle(content, lower_settled)
        except PoisonRecord as error:
            if record.topic is not Topic.COMMANDS:
                raise
            log.warning("command_skipped", error=str(error))
            return "skipped"
        return "applied"


def _place(record: ConsumedRecord, content: Content | PoisonRecord) -> dict[str, str | int]:
    """Fields that identify the record in logs and traces, with owner and image if the record can be parsed."""
    place: dict[str, str | int] = {
        "topic": record.topic.value,
        "partition": record.partition,
        "offset": record.offset,
    }
    if content is None or isinstance(content, PoisonRecord):
        return place
    model = content if isinstance(content, Event) else content.command
    place |= {"type": model.type, "owner": model.owner.key, "version": str(content.version)}
    if not isinstance(model, OwnerCleared):
        place["image_id"] = str(model.image_id)
    return place
