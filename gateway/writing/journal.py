"""Writes a command to the log, then its rows to the index: the one way in which the gateway changes anything.

1. Append, and wait for the ack of all in-sync replicas. Without it nothing is claimed to the caller (invariant 1). A
   time-out is an unknown outcome; nothing is sent again from here (invariant 8).
2. Write the rows at the version that the ack brought, by the same pure function as the indexer's, so that the caller
   reads its own write. Best effort for what comes in: the command is in the log, so where this fails the indexer writes
   them. What goes out must be out: else it could be replaced, and an acknowledged file would be deleted with it.
3. Tell the caches.
"""

from dataclasses import dataclass

import structlog
from opentelemetry.trace import SpanKind

from gateway.services.container import Services
from shared.contract.events import Command, OwnerCleared
from shared.contract.keys import command_version
from shared.contract.logged_command import LoggedCommand, versioned
from shared.errors import Unavailable, UnknownOutcome
from shared.observability import metrics, tracing
from shared.ports import Appended
from shared.read_model.tables import command_writes

log = structlog.get_logger()


@dataclass(frozen=True)
class Journaled:
    """A command that is in the log. `version` is None where the ack brought no offset; then no row is `written`."""

    version: int | None
    written: bool


async def journal_and_apply(services: Services, command: Command) -> int:
    """Append a command and write its rows for certain; returns its version.

    Raises UnknownOutcome, Unavailable: until then it is to be repeated, even if it is in the log.
    """
    found = await journal(services, command)
    if found.version is None:
        raise Unavailable("kafka", "the ack brought no offset")
    if not found.written:
        raise Unavailable("cassandra", "the rows are left to the indexer")
    return found.version


async def journal(services: Services, command: Command) -> Journaled:
    """Append a command and write its rows if possible. Raises UnknownOutcome, Unavailable: then no row was written."""
    appended = await _append(services, command)
    version = None if appended.offset is None else command_version(services.settings.epoch, appended.offset)
    log.info("command_appended", partition=appended.partition, offset=appended.offset, **_named(command, version))
    written = version is not None and await _write_rows(services, versioned(command, version))
    if not isinstance(command, OwnerCleared):
        services.changes.note(command.image_id, command.owner)
    return Journaled(version, written)


async def _append(services: Services, command: Command) -> Appended:
    try:
        with (
            tracing.span(f"append {command.type}", _named(command, None), kind=SpanKind.PRODUCER),
            metrics.APPEND_SECONDS.time(),
        ):
            appended = await services.log.append(command, traceparent=tracing.traceparent())
    except UnknownOutcome:
        metrics.UNKNOWN_OUTCOMES.labels(command.type).inc()
        log.warning("command_outcome_unknown", **_named(command, None))
        raise
    metrics.COMMANDS_APPENDED.labels(command.type).inc()
    return appended


def _named(command: Command, version: int | None) -> dict[str, str]:
    """What the other services' logs call this command, too."""
    found = {"type": command.type, "owner": command.owner.key}
    if version is not None:
        found["version"] = str(version)
    if not isinstance(command, OwnerCleared):
        found["image_id"] = str(command.image_id)
    return found


async def _write_rows(services: Services, logged: LoggedCommand) -> bool:
    try:
        await services.index.apply(command_writes(logged, services.settings.day_shards))
        return True
    except Exception as error:
        # Whatever it is, the command is in the log, and the indexer writes the row.
        metrics.ROW_FAILURES.inc()
        log.warning(
            "row_left_to_indexer", **_named(logged.command, logged.version), error=f"{type(error).__name__}: {error}"
        )
        return False
