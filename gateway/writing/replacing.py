"""Replaces the bytes of one image, or all images of an owner by exactly the files of one request."""

from collections.abc import Collection, Sequence
from uuid import UUID

from gateway.http.problems import Problem
from gateway.receiving.checking import CheckedFile
from gateway.services.set_leases import SetLease
from gateway.services.succession import Successions
from gateway.writing.removal import check_version, clear_owner, is_cleared, replaceable_image
from gateway.writing.uploads import Accepted, Uploads
from shared.contract.keys import Ids, Owner
from shared.errors import Unavailable
from shared.ports import Index
from shared.read_model.documents import ImageRow, version


async def replace_image(
    index: Index,
    uploads: Uploads,
    successions: Successions,
    image_id: UUID,
    file: CheckedFile,
    revision: UUID,
    versions: Collection[str] | None,
) -> Accepted:
    """Make a new revision of an image. With `versions` the image must have one of them.

    Raises Problem `not_found`, `precondition_failed` and `in_flight`, and Unavailable.
    """
    row = await replaceable_image(index, image_id)
    # An earlier try of this request has replaced the image, and no other request has since: this is its repetition.
    repeated = row.request is not None and row.request.revision == revision
    if versions is None or repeated:
        return await uploads.replace(file, revision, row)
    check_version(row, versions)
    await uploads.store_original(file, Ids(image_id, revision))
    async with successions.claim(image_id, version(row), str(revision)):
        # Read again: a request without a condition makes no claim.
        row = await replaceable_image(index, image_id)
        check_version(row, versions)
        return await uploads.append_replacement(file, revision, row)


async def replace_set(
    index: Index, uploads: Uploads, lease: SetLease, owner: Owner, files: Sequence[CheckedFile], ids: Sequence[Ids]
) -> list[Accepted | Problem]:
    """Make the owner's images exactly these files (invariant 9). `lease` is the lease of the owner's set.

    One file replaces the owner's only image, so that the image keeps its id. Otherwise the gateway appends the new
    images first and the fence last. If it fails in between, the owner has too many images, never none. The request is
    safe to repeat.

    Raises Unavailable if the fence is not acked or if old images are still in the lists, and Problem `unavailable` if
    the lease has ended.
    """
    only = await _only_image(index, owner, ids) if len(files) == 1 and not lease.unfenced else None
    if only is not None:
        return [await uploads.replace(files[0], ids[0].revision, only)]
    stored = await uploads.store_batch(files, ids)
    for file in stored:
        if isinstance(file, Problem):
            # Nothing is in the log yet, so the set stays as it was.
            raise file
    await lease.begin_uploads()
    results = await uploads.append_batch(stored, ids, owner)
    accepted = [result for result in results if isinstance(result, Accepted)]
    if len(accepted) < len(results):
        # A fence would now delete old images whose replacement has failed.
        return results
    if not all(result.command.written for result in accepted):
        # With some rows still unwritten, the index can show a single image that is below the fence. Then another
        # request would take it for the owner's only image and replace it.
        raise Unavailable("cassandra", "the rows of the new images are not written; the indexer will write them")
    # The fence is below the first of the new images, so that it does not delete uploads of other requests in between.
    before = min(result.command.version for result in accepted if result.command.version is not None)
    await lease.confirm()
    await clear_owner(index, uploads.journal, owner, before=before)
    lease.fenced()
    return results


async def _only_image(index: Index, owner: Owner, ids: Sequence[Ids]) -> ImageRow | None:
    """The row of the owner's only image, if a replacement of it keeps it the only one; else None.

    Uploads with a fence are right in each case in which this is not certain.
    """
    rows = await index.of_owner(owner, limit=2)
    # If the only image has the id of this request, an earlier try of this request has uploaded it.
    if len(rows) != 1 or rows[0].image_id == ids[0].image_id:
        return None
    # A delete that failed may have removed the image from one table and left it in the other, and a fence that is not
    # carried out yet may have cleared it.
    if await index.image(rows[0].image_id) is None or await is_cleared(index, rows[0]):
        return None
    return rows[0]
