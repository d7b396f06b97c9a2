"""Deletes one image, or all images of an owner behind a fence (invariant 9)."""

from collections.abc import Collection
from uuid import UUID

import structlog

from gateway.http.problems import Problem
from gateway.services.succession import Successions
from gateway.writing.journal import Journal
from shared.concurrency import for_each
from shared.contract.events import Deleted, OwnerCleared
from shared.contract.keys import Owner
from shared.owner_images import owner_pages
from shared.ports import Index
from shared.read_model.documents import ImageRow, version

MAX_DELETES = 1000
"""Images of an owner that the gateway deletes before it responds, newest first. The indexer deletes the others."""
CONCURRENT_DELETES = 8
DELETION = "delete"
"""Names a deletion in the claim of a version. Deletions of one version are the same update."""


async def existing_image(index: Index, image_id: UUID) -> ImageRow:
    """The row of the image. Raises Problem `not_found`, and Unavailable."""
    row = await index.image(image_id)
    if row is None:
        raise Problem("not_found", f"there is no image {image_id}")
    return row


async def replaceable_image(index: Index, image_id: UUID) -> ImageRow:
    """The row of an image that no fence has cleared. Raises Problem `not_found`, and Unavailable.

    The row of a cleared image may still be there, or may be written late. A replacement of it would be acknowledged and
    then be lost together with the image.
    """
    row = await existing_image(index, image_id)
    if await is_cleared(index, row):
        raise Problem("not_found", f"the image {image_id} was deleted with all images of its owner")
    return row


async def is_cleared(index: Index, row: ImageRow) -> bool:
    """Whether a fence has cleared the image, according to the owner's record of fences. Raises Unavailable."""
    return row.image_version < await index.cleared_before(row.owner)


def check_version(row: ImageRow, versions: Collection[str]) -> None:
    """Raise Problem `precondition_failed` unless the image has one of these versions."""
    if version(row) not in versions:
        detail = f"the image has the version {version(row)}; `If-Match` must have the version that you have read"
        raise Problem("precondition_failed", detail, version=version(row))


async def delete_image(index: Index, journal: Journal, image_id: UUID) -> None:
    """Delete one image. It is in no list any more when this returns. Raises Problem `not_found`, and Unavailable."""
    await _delete(journal, await existing_image(index, image_id))


async def delete_version(
    index: Index, journal: Journal, successions: Successions, image_id: UUID, versions: Collection[str]
) -> None:
    """Delete one image as `delete_image` does, if it has one of these versions.

    Raises Problem `not_found`, `precondition_failed` and `in_flight`, and Unavailable.
    """
    row = await existing_image(index, image_id)
    check_version(row, versions)
    async with successions.claim(image_id, version(row), DELETION):
        # Read again: a request without a condition makes no claim.
        row = await existing_image(index, image_id)
        check_version(row, versions)
        await _delete(journal, row)


async def _delete(journal: Journal, row: ImageRow) -> None:
    structlog.contextvars.bind_contextvars(owner=row.owner.key, image_id=str(row.image_id))
    await journal.append_and_apply(Deleted(image_id=row.image_id, owner=row.owner))


async def clear_owner(index: Index, journal: Journal, owner: Owner, *, before: int | None = None) -> None:
    """Delete the owner's images whose version is below `before` (None: below the fence's own).

    1. Append the fence and write it to the owner's record of fences. Nothing has changed before the ack. With the
       record, no image below the fence can be replaced, even if its row is still there.
    2. Delete the newest MAX_DELETES images that are in the index now. When the indexer reaches the fence in the log, it
       deletes the rest.
    3. Forget what is cached about the owner once more. The indexer may have deleted images of which this process knows
       nothing, and a read that began after the fence may have found an image that is gone now.

    Raises Unavailable if a step is not confirmed. It is safe to repeat.
    """
    version = await journal.append_and_apply(OwnerCleared(owner=owner, before=before))
    below = version if before is None else before
    older = [row for row in await _newest(index, owner) if row.image_version < below]

    async def delete(row: ImageRow) -> None:
        await journal.append_and_apply(Deleted(image_id=row.image_id, owner=owner))

    await for_each(older, delete, CONCURRENT_DELETES)
    journal.changes.notify(None, owner)


async def _newest(index: Index, owner: Owner) -> list[ImageRow]:
    rows: list[ImageRow] = []
    async for page in owner_pages(index, owner):
        rows += page
        if len(rows) >= MAX_DELETES:
            break
    return rows
