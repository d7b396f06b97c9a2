"""How one record is applied under the delivery policy, and what its delivery tells logs, metrics and traces."""

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
    """Hands records to the handler under the delivery policy; `epoch` is that of their topics.

    A command that cannot be read is counted and skipped: the processor dead-letters it. An event that cannot be read
    goes to the DLQ from here.
    """

    def __init__(self, handler: Handler, policy: DeliveryPolicy, *, epoch: int) -> None:
        self._handler = handler
        self._policy = policy
        self._epoch = epoch

    async def deliver(self, record: ConsumedRecord, lower_settled: Barrier) -> None:
        """Return when the record is settled. Raises Unavailable, TooManyDeadLetters: the process must stop."""
        started = time.monotonic()
        content = parse(record, self._epoch)
        place = _place(record, content)
        kind = str(place.get("type", UNREADABLE))
        parent = tracing.continued(header(record.headers, tracing.TRACEPARENT))
        with (
            structlog.contextvars.bound_contextvars(**place),
            tracing.span(f"apply {kind}", place, kind=SpanKind.CONSUMER, parent=parent),
        ):
            # An event keeps its version in itself; a command has it from its first place in the log.
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
    """What names the record in logs and traces, and what it is about where it can be read."""
    place: dict[str, str | int] = {
        "topic": record.topic.value,
        "partition": record.partition,
        "offset": record.offset,
    }
    if content is None or isinstance(content, PoisonRecord):
        return place
    said = content if isinstance(content, Event) else content.command
    place |= {"type": said.type, "owner": said.owner.key, "version": str(content.version)}
    if not isinstance(said, OwnerCleared):
        place["image_id"] = str(said.image_id)
    return place
