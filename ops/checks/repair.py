"""Mends differences where a write at the log's own versions can win, and names the command for the rest."""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from uuid import UUID

from ops.bucket.listing import read_manifest
from ops.checks.differences import DLQ, FENCE, LOG, Difference, Kind
from ops.checks.inspection import Inspection
from ops.index.rows import state_writes
from ops.log.fold import ImageState
from processor.results import delete_image, put_tombstone
from shared.contract.keys import MANIFEST_NAME, TOMBSTONES_PREFIX, is_manifest, tombstone_key
from shared.ports import EventLog, Index
from shared.read_model.tables import DAYS, IMAGE_TABLES, Write, day_insert, event_writes

RENDER_AGAIN = "imagepipe reprocess --where all --image {image}"
REBUILD = "imagepipe reindex --into NEW_KEYSPACE --compare --switch: a write of the log cannot win here"
ADVICE = dict.fromkeys((*IMAGE_TABLES, DAYS), REBUILD) | {
    DLQ: "imagepipe dlq list: mend the cause, then redrive or drop the entry",
    FENCE: "DELETE /images/{image}, or clear the owner once more",
    LOG: "imagepipe replay --from beginning --image {image}",
}
"""What mends what is left, by where it is."""


async def repair(
    differences: Iterable[Difference], inspection: Inspection, index: Index, events: EventLog, shards: int
) -> list[Difference]:
    """Mend what can be, look again, and return what is left. Raises Unavailable, UnknownOutcome.

    Everything is written at versions that the log has given, so a repair is safe beside live traffic: where the log
    has moved on since, the later write wins.
    """
    by_image: dict[UUID, list[Difference]] = defaultdict(list)
    for each in differences:
        by_image[each.image_id].append(each)
    for image_id, found in by_image.items():
        state = inspection.fold.images.get(image_id)
        if state is not None:
            await _mend_bucket(state, found, inspection)
            await _mend_answers(found, inspection, index, events, shards)
            await index.apply(_row_writes(state, found, shards))
        elif image_id.int == 0:
            days = [day for day in inspection.fold.days if any(str(day) == each.detail for each in found)]
            await index.apply([day_insert(day, 1) for day in days])
    await inspection.catch_up()
    return await inspection.look_again(each for found in by_image.values() for each in found)


async def _mend_bucket(state: ImageState, found: Sequence[Difference], inspection: Inspection) -> None:
    """Finish a deletion: the tombstone first, as the processor does (invariant 6)."""
    if state.is_removed and any(each.where not in (*IMAGE_TABLES, DAYS) for each in found):
        key = tombstone_key(state.image_id)
        if any(each.where == key and each.kind is Kind.WRONG for each in found):
            # Nobody can read it: whoever meets it stops.
            await inspection.store.delete([key])
        await put_tombstone(inspection.store, state.image_id, state.deleted)
        await delete_image(inspection.store, state.image_id)


async def _mend_answers(
    found: Sequence[Difference], inspection: Inspection, index: Index, events: EventLog, shards: int
) -> None:
    """A manifest is the answer, whole: tell the log what it should have been told, at the manifest's version."""
    for each in found:
        if each.kind is Kind.UNANSWERED and is_manifest(each.where):
            manifest = await read_manifest(inspection.store, each.where)
            if manifest is not None:
                await events.publish(manifest.event)
                await index.apply(event_writes(manifest.event, shards))


def _row_writes(state: ImageState, found: Sequence[Difference], shards: int) -> list[Write]:
    tables = {each.where for each in found} & set(IMAGE_TABLES)
    return state_writes(state, shards, [table for table in IMAGE_TABLES if table in tables]) if tables else []


def advice(difference: Difference) -> str:
    """What mends a difference that is left, in a sentence."""
    kind, where = difference.kind, difference.where
    if where in ADVICE:
        text = ADVICE[where]
    elif kind is Kind.UNANSWERED:
        text = ADVICE[LOG]
    elif where.startswith(TOMBSTONES_PREFIX):
        text = "delete this object, unless somebody has deleted the image: then DELETE /images/{image} once more"
    elif kind is Kind.EXTRA:
        text = "imagepipe gc shows what nothing knows, and removes it with --apply"
    elif kind is Kind.WRONG and is_manifest(where):
        text = f"delete {where.removesuffix(MANIFEST_NAME)} with all that is in it, then {RENDER_AGAIN}"
    elif "original." in where:
        text = "put the object back from a copy of the bucket; nothing else has these bytes"
    else:
        text = RENDER_AGAIN
    return text.format(image=difference.image_id)
