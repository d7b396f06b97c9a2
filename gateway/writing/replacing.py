"""Replaces all images of an owner by exactly the files of one request."""

from collections.abc import Sequence

from gateway.http.problems import Problem
from gateway.receiving.checking import CheckedFile
from gateway.writing.removal import clear_owner, is_cleared
from gateway.writing.uploads import Accepted, Uploads
from shared.contract.keys import Ids, Owner
from shared.errors import Unavailable
from shared.ports import Index


async def replace_set(
    index: Index, uploads: Uploads, owner: Owner, files: Sequence[CheckedFile], ids: Sequence[Ids]
) -> list[Accepted | Problem]:
    """Make the owner's images exactly these files (invariant 9).

    The gateway appends the new images first and the fence last. If it fails in between, the owner has too many images,
    never none. The request is safe to repeat.

    Raises Unavailable if the fence is not acked or if old images are still in the lists.
    """
    replaced = await _replace_in_place(index, uploads, owner, files, ids)
    results: list[Accepted | Problem] = [replaced] if replaced else await uploads.upload_batch(files, ids, owner)
    accepted = [result for result in results if isinstance(result, Accepted)]
    if len(accepted) < len(results):
        # A fence would now delete old images whose replacement has failed.
        return results
    if not all(result.command.written for result in accepted):
        # With some rows still unwritten, the index can show a single image that is below the fence. Then
        # _replace_in_place of another request would take it for the owner's only image and replace it.
        raise Unavailable("cassandra", "the rows of the new images are not written; the indexer will write them")
    # The fence is below the first of the new images, so that it does not delete uploads of other requests in between.
    before = min(result.command.version for result in accepted if result.command.version is not None)
    keep = [result.row.image_id for result in accepted]
    await clear_owner(index, uploads.journal, owner, before=before, keep=keep)
    return results


async def _replace_in_place(
    index: Index, uploads: Uploads, owner: Owner, files: Sequence[CheckedFile], ids: Sequence[Ids]
) -> Accepted | None:
    """Replace the owner's only image by the only file, so that the image keeps its id.

    Returns None if it is not certain that the image is the only one and that no other request deletes it at the same
    time. An upload with a fence is right in each of these cases.
    """
    if len(files) != 1:
        return None
    rows = await index.of_owner(owner, limit=2)
    found = [row.image_id for row in rows]
    # If the only image has the id of this request, an earlier try of this request has uploaded it.
    if len(found) != 1 or found[0] == ids[0].image_id:
        return None
    # A delete that failed may have removed the image from one table and left it in the other, and a fence that is not
    # carried out yet may have cleared it.
    if await index.image(found[0]) is None or await is_cleared(index, rows[0]):
        return None
    replaced = await uploads.replace(files[0], ids[0].revision, rows[0])
    # A concurrent request like this one writes the rows of its images before it appends its fence. If there are none of
    # these rows now, its fence comes after this replacement in the log.
    still_found = [row.image_id for row in await index.of_owner(owner, limit=2)]
    return replaced if still_found == found else None
