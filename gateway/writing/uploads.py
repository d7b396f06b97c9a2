"""The one write path of every file that comes in: store the original, append the command, answer.

Uploads, batches, replacements, owner sets and ingested objects differ in who names the ids and the owner, not in this.
"""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, replace

from gateway.http.problems import Problem, away
from gateway.ids import Ids
from gateway.receiving.checking import CheckedFile
from gateway.services.container import Services
from gateway.writing.journal import Journaled, journal
from shared.contract.events import Original, Replaced, Uploaded
from shared.contract.keys import Owner, original_key, uploaded_at
from shared.contract.logged_command import LoggedRenderCommand
from shared.errors import PreconditionFailed, Unavailable
from shared.read_model.documents import ImageRow, media_url

CONCURRENT_PUTS = 4
"""Objects that one request stores at once, so that a batch leaves S3's threads to others too."""


@dataclass(frozen=True)
class Accepted:
    """A file whose command is in the log, and the row as the command makes it."""

    row: ImageRow
    command: Journaled


Storing = Callable[[str, CheckedFile], Awaitable[None]]
"""Brings a file's bytes under a key."""


def put_original(services: Services) -> Storing:
    """Stores bytes that are in memory. Keys are immutable: what a retry finds there is the same."""

    async def store(key: str, file: CheckedFile) -> None:
        with contextlib.suppress(PreconditionFailed):
            await services.store.put(key, file.data, file.info.content_type, if_absent=True)

    return store


async def store_one(file: CheckedFile, ids: Ids, store: Storing) -> None:
    """Store one original. Raises Unavailable and what `store` raises."""
    await store(original_key(*ids, file.info.content_type), file)


async def announce_upload(services: Services, file: CheckedFile, ids: Ids, owner: Owner | None) -> Accepted:
    """Append the command of a new image whose original is stored. Without an owner it is owned by itself.

    Raises UnknownOutcome, Unavailable.
    """
    command = Uploaded(
        image_id=ids.image_id,
        owner=owner or Owner.of_image(ids.image_id),
        revision=ids.revision,
        original=_original(services, file, ids),
        ladder=services.settings.ladder,
    )
    journaled = await journal(services, command)
    logged = LoggedRenderCommand(command, journaled.version or 0)
    row = ImageRow(
        ids.image_id, command.owner, uploaded_at(ids.image_id), logged.image_version, logged.request, None, None
    )
    return Accepted(row, journaled)


async def announce_replacement(services: Services, file: CheckedFile, ids: Ids, row: ImageRow) -> Accepted:
    """Append the command of a new revision of the row's image. Raises UnknownOutcome, Unavailable."""
    command = Replaced(
        image_id=row.image_id,
        owner=row.owner,
        image_version=row.image_version,
        revision=ids.revision,
        original=_original(services, file, ids),
        ladder=services.settings.ladder,
    )
    journaled = await journal(services, command)
    logged = LoggedRenderCommand(command, journaled.version or 0)
    return Accepted(replace(row, request=logged.request), journaled)


async def upload_batch(
    services: Services, files: Sequence[CheckedFile | Problem], ids: Sequence[Ids], owner: Owner | None
) -> list[Accepted | Problem]:
    """Take in what is acceptable of a request's files; one that fails does not spoil the others. In order.

    An engine that is away is asked once, not once for each file: the caller is told within one time-out.
    """
    stored = await _store_batch(services, files, ids)
    results: list[Accepted | Problem] = []
    outage: Unavailable | None = None
    # One after the other: the log's order within the request is that of its files.
    for file, names in zip(stored, ids, strict=True):
        if isinstance(file, Problem):
            results.append(file)
        elif outage is not None:
            results.append(away(Unavailable(outage.engine, outage.detail), file_name=file.name))
        else:
            try:
                results.append(await announce_upload(services, file, names, owner))
            except Unavailable as error:
                outage = error
                results.append(away(error, file_name=file.name))
    return results


async def _store_batch(
    services: Services, files: Sequence[CheckedFile | Problem], ids: Sequence[Ids]
) -> list[CheckedFile | Problem]:
    places = asyncio.Semaphore(CONCURRENT_PUTS)
    store = put_original(services)
    outages: list[Unavailable] = []

    async def one(file: CheckedFile | Problem, names: Ids) -> CheckedFile | Problem:
        if isinstance(file, Problem):
            return file
        async with places:
            if not outages:
                try:
                    await store_one(file, names, store)
                    return file
                except Unavailable as error:
                    outages.append(error)
            return away(outages[0], file_name=file.name)

    return await asyncio.gather(*map(one, files, ids))


def _original(services: Services, file: CheckedFile, ids: Ids) -> Original:
    path = original_key(*ids, file.info.content_type)
    return Original(
        file_name=file.name,
        content_type=file.info.content_type,
        size=len(file.data),
        width=file.info.width,
        height=file.info.height,
        sha256=file.sha256,
        path=path,
        url=media_url(services.settings.public_base_url, path),
    )
