"""Appends a command to the log, then writes its rows to the index. Each command of the gateway goes this way.

1. Append the command and wait for the ack of all in-sync replicas. Before that ack no client gets a success response
   (invariant 1). A time-out is an unknown outcome; the gateway does not send the command again (invariant 8).
2. Write the rows that `command_writes` computes, at the version that follows from the acked offset. So the client sees
   its change at once, before the indexer has read the command. The indexer uses the same function, so it later writes
   the same rows again.
3. Notify the caches of this process.

An upload or a replacement succeeds even if step 2 fails: the command is in the log, and the indexer writes the rows. A
delete must fail in that case (`append_and_apply`). While the rows of a deleted image are still there, a client can
replace that image. The gateway would acknowledge the replacement, and the replacement would be lost, because a delete
is final (ADR 11).
"""

from dataclasses import dataclass

import structlog
from opentelemetry.trace import SpanKind

from gateway.services.changes import Changes
from shared.contract.events import Command, OwnerCleared
from shared.contract.keys import command_version
from shared.contract.logged_command import LoggedCommand, versioned
from shared.errors import Unavailable, UnknownOutcome
from shared.observability import metrics, tracing
from shared.ports import Appended, CommandLog, Index
from shared.read_model.tables import command_writes

log = structlog.get_logger()


@dataclass(frozen=True)
class Journaled:
    """A command that is in the log.

    `version` is None if the ack had no offset. `written` says whether the rows were written. Without a version they
    were not.
    """

    version: int | None
    written: bool


@dataclass(frozen=True)
class Journal:
    """Appends each command of this process to the log, and writes its rows to the index."""

    log: CommandLog
    index: Index
    changes: Changes
    epoch: int
    day_shards: int

    async def append_and_apply(self, command: Command) -> int:
        """Append a command and write its rows; returns its version.

        Raises UnknownOutcome or Unavailable if the append is not confirmed, and Unavailable if the rows are not
        written. The client then has to repeat its request, even if the command is already in the log.
        """
        journaled = await self.append(command)
        if journaled.version is None:
            raise Unavailable("kafka", "the ack has no offset")
        if not journaled.written:
            raise Unavailable("cassandra", "the rows are not written; the indexer will write them")
        return journaled.version

    async def append(self, command: Command) -> Journaled:
        """Append a command and try to write its rows.

        Raises UnknownOutcome or Unavailable if the append is not confirmed; then no row is written.
        """
        appended = await self._append(command)
        version = None if appended.offset is None else command_version(self.epoch, appended.offset)
        log.info("command_appended", partition=appended.partition, offset=appended.offset, **_fields(command, version))
        written = version is not None and await self._write_rows(versioned(command, version))
        self.changes.notify(None if isinstance(command, OwnerCleared) else command.image_id, command.owner)
        return Journaled(version, written)

    async def _append(self, command: Command) -> Appended:
        try:
            with (
                tracing.span(f"append {command.type}", _fields(command, None), kind=SpanKind.PRODUCER),
                metrics.APPEND_SECONDS.time(),
            ):
                appended = await self.log.append(command, traceparent=tracing.traceparent())
        except UnknownOutcome:
            metrics.UNKNOWN_OUTCOMES.labels(command.type).inc()
            log.warning("command_outcome_unknown", **_fields(command, None))
            raise
        metrics.COMMANDS_APPENDED.labels(command.type).inc()
        return appended

    async def _write_rows(self, logged: LoggedCommand) -> bool:
        try:
            await self.index.apply(command_writes(logged, self.day_shards))
            return True
        except Exception as error:
            # The command is already in the log, so no error of the index may fail the request here, not even an
            # unexpected one. The indexer will write the rows.
            metrics.ROW_FAILURES.inc()
            fields = _fields(logged.command, logged.version)
            log.warning("row_left_to_indexer", **fields, error=f"{type(error).__name__}: {error}")
            return False


def _fields(command: Command, version: int | None) -> dict[str, str]:
    """Log fields of a command, under the names that the processor and the indexer use too."""
    fields = {"type": command.type, "owner": command.owner.key}
    if version is not None:
        fields["version"] = str(version)
    if not isinstance(command, OwnerCleared):
        fields["image_id"] = str(command.image_id)
    return fields
