"""Deleting: one image at once, and an owner's images behind a fence (invariant 9)."""

import asyncio
from collections.abc import AsyncIterator, Collection
from uuid import UUID

import structlog

from gateway.http.problems import Problem
from gateway.services.container import Services
from gateway.writing.journal import journal_and_apply
from shared.contract.events import Deleted, OwnerCleared
from shared.contract.keys import Owner
from shared.read_model.documents import ImageRow

PAGE = 100
AT_ONCE = 1000
"""Images that the gateway removes itself, newest first, before it answers; the fence removes what is beyond."""
CONCURRENT_DELETES = 8


async def existing(services: Services, image_id: UUID) -> ImageRow:
    """The image's row. Raises Problem `not_found`, and Unavailable."""
    row = await services.index.image(image_id)
    if row is None:
        raise Problem("not_found", f"there is no image {image_id}")
    return row


async def delete_image(services: Services, image_id: UUID) -> None:
    """Delete one image: acknowledged in the log, then gone from the lists. Raises Problem, Unavailable."""
    row = await existing(services, image_id)
    structlog.contextvars.bind_contextvars(owner=row.owner.key, image_id=str(image_id))
    await journal_and_apply(services, Deleted(image_id=image_id, owner=row.owner))


async def clear_owner(
    services: Services, owner: Owner, *, before: int | None = None, keep: Collection[UUID] = ()
) -> None:
    """Remove an owner's images with a version below `before` (None: below the fence's own) but for `keep`.

    1. Append the fence. Until it is acked nothing has happened.
    2. Delete what is visible now, each row only after its record is acked. At the fence the live indexer does the same
       for what is left.

    Raises Unavailable until both are done; it is safe to repeat.
    """
    version = await journal_and_apply(services, OwnerCleared(owner=owner, before=before, keep=tuple(keep)))
    limit = before if before is not None else version
    older = [row async for row in _visible(services, owner) if row.image_version < limit and row.image_id not in keep]
    places = asyncio.Semaphore(CONCURRENT_DELETES)

    async def remove(row: ImageRow) -> None:
        async with places:
            await journal_and_apply(services, Deleted(image_id=row.image_id, owner=owner))

    try:
        async with asyncio.TaskGroup() as tasks:
            for row in older:
                tasks.create_task(remove(row))
    except ExceptionGroup as errors:
        raise errors.exceptions[0] from errors


async def _visible(services: Services, owner: Owner) -> AsyncIterator[ImageRow]:
    below: UUID | None = None
    for _ in range(AT_ONCE // PAGE):
        rows = await services.index.of_owner(owner, below=below, limit=PAGE)
        for row in rows:
            yield row
        if len(rows) < PAGE:
            return
        below = rows[-1].image_id
