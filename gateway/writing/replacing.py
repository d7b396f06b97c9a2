"""Replacing: new bytes for one image, or exactly these files for an owner."""

from collections.abc import Sequence

from gateway.http.problems import Problem
from gateway.ids import Ids
from gateway.receiving.checking import CheckedFile
from gateway.services.container import Services
from gateway.writing.removal import clear_owner
from gateway.writing.uploads import Accepted, announce_replacement, put_original, store_one, upload_batch
from shared.contract.keys import Owner
from shared.errors import Unavailable
from shared.read_model.documents import ImageRow


async def replace_image(services: Services, file: CheckedFile, ids: Ids, row: ImageRow) -> Accepted:
    """A new revision of the row's image; what was served before is served until it is ready. Raises Unavailable."""
    names = Ids(row.image_id, ids.revision)
    await store_one(file, names, put_original(services))
    return await announce_replacement(services, file, names, row)


async def replace_set(
    services: Services, owner: Owner, files: Sequence[CheckedFile], ids: Sequence[Ids]
) -> list[Accepted | Problem]:
    """Make the owner's images exactly these files (invariant 9).

    The new images come first and the fence last, so that a failure in between leaves too many images, never none;
    the request is safe to repeat. Raises Unavailable until the fence is acked and the old images are out of the lists.
    """
    replaced = await _in_place(services, owner, files, ids)
    accepted: list[Accepted | Problem] = [replaced] if replaced else await upload_batch(services, files, ids, owner)
    done = [result for result in accepted if isinstance(result, Accepted)]
    if len(done) < len(accepted):
        # Fencing now would remove what these files were to replace.
        return accepted
    if not all(result.command.written for result in done):
        # An image below the fence could be seen alone then, and be taken by _in_place for all that the owner has.
        raise Unavailable("cassandra", "rows of the new images are left to the indexer")
    # Uploads of others that came in between stay.
    before = min(result.command.version for result in done if result.command.version is not None)
    await clear_owner(services, owner, before=before, keep=[result.row.image_id for result in done])
    return accepted


async def _in_place(
    services: Services, owner: Owner, files: Sequence[CheckedFile], ids: Sequence[Ids]
) -> Accepted | None:
    """One file onto an owner with one image: that image keeps its id.

    None where that is not sure: what is replaced must not be deleted already. An upload and its fence are always right.
    """
    if len(files) != 1:
        return None
    rows = await services.index.of_owner(owner, limit=2)
    found = [row.image_id for row in rows]
    # An image with this request's own id is what an earlier try of it has uploaded.
    if len(found) != 1 or found[0] == ids[0].image_id:
        return None
    # A delete that failed may have removed a part of the row.
    if await services.index.image(found[0]) is None:
        return None
    replaced = await replace_image(services, files[0], ids[0], rows[0])
    # Another set's images are seen before its fence is in the log: without any, no such fence is below the replacement.
    seen = [row.image_id for row in await services.index.of_owner(owner, limit=2)]
    return replaced if seen == found else None
