"""Stores the original of a file and appends the command that announces it.

Uploads, batches, replacements, owner sets and incoming objects differ in the ids and the owner that they pass. All of
them use this one write path.
"""

import contextlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from uuid import UUID

from gateway.http.problems import Problem, unavailable
from gateway.receiving.checking import CheckedFile
from gateway.writing.journal import Journal, Journaled
from shared.concurrency import map_ordered
from shared.contract.events import Original, Replaced, Uploaded
from shared.contract.keys import Ids, Owner, original_key, uploaded_at
from shared.contract.ladder import Ladder
from shared.contract.logged_command import LoggedRenderCommand
from shared.errors import PreconditionFailed, Unavailable
from shared.ports import ObjectStore
from shared.read_model.documents import ImageRow, media_url

CONCURRENT_PUTS = 4
"""Objects of one request that are stored at the same time. A batch must not use all threads of the S3 client."""


@dataclass(frozen=True)
class Accepted:
    """A file whose command is in the log, and the image's row as the command makes it."""

    row: ImageRow
    command: Journaled


@dataclass(frozen=True)
class Uploads:
    """Writes files to the bucket and their commands to the log. Its methods raise UnknownOutcome and Unavailable."""

    store: ObjectStore
    journal: Journal
    ladder: Ladder
    base_url: str

    async def upload(self, file: CheckedFile, ids: Ids, owner: Owner | None) -> Accepted:
        """Make a new image from the file. Without an owner the image owns itself."""
        await self.store_original(file, ids)
        return await self.append_upload(file, ids, owner)

    async def replace(self, file: CheckedFile, revision: UUID, row: ImageRow) -> Accepted:
        """Make a new revision of the row's image. The gateway serves the previous revision until this one is ready."""
        await self.store_original(file, Ids(row.image_id, revision))
        return await self.append_replacement(file, revision, row)

    async def append_replacement(self, file: CheckedFile, revision: UUID, row: ImageRow) -> Accepted:
        """Append the command of a new revision whose original is already stored."""
        ids = Ids(row.image_id, revision)
        command = Replaced(
            image_id=row.image_id,
            owner=row.owner,
            image_version=row.image_version,
            revision=revision,
            original=self._original(file, ids),
            ladder=self.ladder,
        )
        journaled = await self.journal.append(command)
        logged = LoggedRenderCommand(command, journaled.version or 0)
        return Accepted(replace(row, request=logged.request), journaled)

    async def append_upload(self, file: CheckedFile, ids: Ids, owner: Owner | None) -> Accepted:
        """Append the command of a new image whose original is already stored."""
        command = Uploaded(
            image_id=ids.image_id,
            owner=owner or Owner.of_image(ids.image_id),
            revision=ids.revision,
            original=self._original(file, ids),
            ladder=self.ladder,
        )
        journaled = await self.journal.append(command)
        logged = LoggedRenderCommand(command, journaled.version or 0)
        row = ImageRow(
            ids.image_id, command.owner, uploaded_at(ids.image_id), logged.image_version, logged.request, None, None
        )
        return Accepted(row, journaled)

    async def upload_batch(
        self, files: Sequence[CheckedFile | Problem], ids: Sequence[Ids], owner: Owner | None
    ) -> list[Accepted | Problem]:
        """Upload the files that are no problem; the results are in the order of the files.

        A file that fails does not affect the others. Once an engine is unavailable, the other files are not tried: the
        client gets its response after one time-out instead of one per file.
        """
        return await self.append_batch(await self.store_batch(files, ids), ids, owner)

    async def append_batch(
        self, stored: Sequence[CheckedFile | Problem], ids: Sequence[Ids], owner: Owner | None
    ) -> list[Accepted | Problem]:
        """Append the commands of the files that are stored, as `upload_batch` does."""
        results: list[Accepted | Problem] = []
        outage: Unavailable | None = None
        # The commands are appended one by one, so that their order in the log is the order of the files.
        for file, file_ids in zip(stored, ids, strict=True):
            if isinstance(file, Problem):
                results.append(file)
            elif outage is not None:
                # The command of this file was not sent, so its outcome is not unknown, even if the first one's is.
                results.append(unavailable(Unavailable(outage.engine, outage.detail), file_name=file.name))
            else:
                try:
                    results.append(await self.append_upload(file, file_ids, owner))
                except Unavailable as error:
                    outage = error
                    results.append(unavailable(error, file_name=file.name))
        return results

    async def store_batch(
        self, files: Sequence[CheckedFile | Problem], ids: Sequence[Ids]
    ) -> list[CheckedFile | Problem]:
        """Store the originals of the files, as `upload_batch` does; a file that could not be stored is a problem."""
        outages: list[Unavailable] = []

        async def store(pair: tuple[CheckedFile | Problem, Ids]) -> CheckedFile | Problem:
            file, file_ids = pair
            if isinstance(file, Problem):
                return file
            if not outages:
                try:
                    await self.store_original(file, file_ids)
                    return file
                except Unavailable as error:
                    outages.append(error)
            return unavailable(outages[0], file_name=file.name)

        return await map_ordered(zip(files, ids, strict=True), store, CONCURRENT_PUTS)

    async def store_original(self, file: CheckedFile, ids: Ids) -> None:
        """Store the original of a file, unless an earlier try of the same request has stored it."""
        content_type = file.info.content_type
        # An object under this key is from an earlier try of the same request and has the same bytes.
        with contextlib.suppress(PreconditionFailed):
            await self.store.put(original_key(*ids, content_type), file.data, content_type, if_absent=True)

    def _original(self, file: CheckedFile, ids: Ids) -> Original:
        path = original_key(*ids, file.info.content_type)
        return Original(
            file_name=file.name,
            content_type=file.info.content_type,
            size=len(file.data),
            width=file.info.width,
            height=file.info.height,
            sha256=file.sha256,
            path=path,
            url=media_url(self.base_url, path),
        )
