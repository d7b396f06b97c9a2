"""Clearing an owner: what the fence still finds is deleted through the log, then from the index (invariant 9)."""

from collections.abc import Callable
from uuid import UUID

import structlog
from opentelemetry.trace import SpanKind

from shared.concurrency import for_each
from shared.contract.events import Deleted
from shared.contract.keys import Owner, command_version
from shared.contract.logged_command import LoggedDelete, LoggedFence
from shared.observability import tracing
from shared.observability.metrics import FENCE_DELETIONS
from shared.owner_images import owner_pages
from shared.ports import CommandLog, Index
from shared.read_model.documents import ImageRow
from shared.read_model.tables import command_writes

log = structlog.get_logger()


class Fence:
    """The effects of `owner.cleared` for the live group. Safe to repeat: a second run finds what the first left."""

    def __init__(
        self, index: Index, commands: CommandLog, *, epoch: int, shards: int, on_progress: Callable[[], None]
    ) -> None:
        """`on_progress` is called after each page, so that a long fence is not taken for a hang."""
        self._index = index
        self._commands = commands
        self._epoch = epoch
        self._shards = shards
        self._on_progress = on_progress

    async def clear(self, fence: LoggedFence) -> int:
        """Delete the owner's images below the fence that are not kept; returns how many.

        The caller has applied every lower offset of the partition, so that no image below the fence is overlooked,
        and settles the fence only after this returns. Raises Unavailable, UnknownOutcome.
        """
        owner, keep = fence.command.owner, set(fence.command.keep)
        deleted = 0
        async for rows in owner_pages(self._index, owner):
            doomed = [row for row in rows if row.image_version < fence.before and row.image_id not in keep]
            await self._delete_all(doomed, owner)
            deleted += len(doomed)
            self._on_progress()
        if deleted:
            log.info("owner_cleared", owner=owner.key, version=str(fence.version), deleted=deleted)
        return deleted

    async def _delete_all(self, rows: list[ImageRow], owner: Owner) -> None:
        # When one fails, the others are cancelled before this returns: none of them runs beside the retry.
        await for_each(rows, lambda row: self._delete(row.image_id, owner), at_once=len(rows))

    async def _delete(self, image_id: UUID, owner: Owner) -> None:
        command = Deleted(image_id=image_id, owner=owner)
        with tracing.span(f"append {command.type}", {"image_id": str(image_id)}, kind=SpanKind.PRODUCER):
            appended = await self._commands.append(command, traceparent=tracing.traceparent())
        FENCE_DELETIONS.inc()
        # An ack without an offset gives no version to delete at; the row goes when this group reads the record.
        if appended.offset is not None:
            logged = LoggedDelete(command, command_version(self._epoch, appended.offset))
            await self._index.apply(command_writes(logged, self._shards))
