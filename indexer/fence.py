"""Applies a fence: appends a delete command for each remaining image, then deletes its rows (invariant 9)."""

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
    """Applies `owner.cleared` in the live consumer group. A repetition deletes the images that the first run left."""

    def __init__(
        self, index: Index, commands: CommandLog, *, epoch: int, shards: int, on_progress: Callable[[], None]
    ) -> None:
        """`on_progress` is called after each page, so that the liveness check does not treat a long fence as a hang."""
        self._index = index
        self._commands = commands
        self._epoch = epoch
        self._shards = shards
        self._on_progress = on_progress

    async def clear(self, fence: LoggedFence) -> int:
        """Delete the owner's images below the fence, except those that it keeps; returns their number.

        The caller must have applied all lower offsets of the partition, so that the index has all images below the
        fence. The caller may settle the fence when this method returns. Raises Unavailable, UnknownOutcome.
        """
        owner, keep = fence.command.owner, set(fence.command.keep)
        deleted = 0
        async for rows in owner_pages(self._index, owner):
            cleared = [row for row in rows if row.image_version < fence.before and row.image_id not in keep]
            await self._delete_all(cleared, owner)
            deleted += len(cleared)
            self._on_progress()
        if deleted:
            log.info("owner_cleared", owner=owner.key, version=str(fence.version), deleted=deleted)
        return deleted

    async def _delete_all(self, rows: list[ImageRow], owner: Owner) -> None:
        # If one deletion fails, `for_each` cancels the others before it raises the error. So no deletion of this
        # attempt is still running when the fence is retried.
        await for_each(rows, lambda row: self._delete(row.image_id, owner), at_once=len(rows))

    async def _delete(self, image_id: UUID, owner: Owner) -> None:
        command = Deleted(image_id=image_id, owner=owner)
        with tracing.span(f"append {command.type}", {"image_id": str(image_id)}, kind=SpanKind.PRODUCER):
            appended = await self._commands.append(command, traceparent=tracing.traceparent())
        FENCE_DELETIONS.inc()
        # An ack without an offset gives no version for the deletion. The row is deleted when this group reads the
        # command.
        if appended.offset is not None:
            logged = LoggedDelete(command, command_version(self._epoch, appended.offset))
            await self._index.apply(command_writes(logged, self._shards))
