"""Repairs differences with writes at the log's own versions, and names the command that repairs the others."""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from uuid import UUID

from ops.bucket.listing import read_manifest
from ops.checks.differences import DLQ, FENCE, LOG, Difference, Kind
from ops.checks.inspection import Inspection
from ops.index.rows import state_writes
from ops.log.fold import ImageState
from processor.lookup import complete_markers
from processor.results import delete_image, mark_ready, put_tombstone, read_tombstone
from shared.contract.keys import (
    MANIFEST_NAME,
    TOMBSTONES_PREFIX,
    is_manifest,
    manifest_key,
    markers_prefix,
    tombstone_key,
)
from shared.ports import EventLog, Index
from shared.read_model.tables import DAYS, IMAGE_TABLES, Write, day_insert, event_writes

RENDER_AGAIN = "imagepipe reprocess --where all --image {image}"
REBUILD = (
    "imagepipe reindex --into NEW_KEYSPACE --compare --switch: the row has a higher timestamp than the log's version, "
    "so a write cannot repair it"
)
ADVICE = dict.fromkeys((*IMAGE_TABLES, DAYS), REBUILD) | {
    DLQ: "imagepipe dlq list: repair the cause, then redrive or drop the entry",
    FENCE: "DELETE /images/{image}, or clear the owner again",
    LOG: "imagepipe replay --from beginning --image {image}",
}
"""Maps where a difference is to the advice how to repair it."""


async def repair(
    differences: Iterable[Difference], inspection: Inspection, index: Index, events: EventLog, shards: int
) -> list[Difference]:
    """Repair what writes can repair, and check again; returns the remaining differences.

    Every write has a version of the log. So a repair is safe during live traffic: if the log has a later record by
    then, the write of that record wins. Raises Unavailable, UnknownOutcome.
    """
    by_image: dict[UUID, list[Difference]] = defaultdict(list)
    for each in differences:
        by_image[each.image_id].append(each)
    for image_id, found in by_image.items():
        state = inspection.fold.images.get(image_id)
        if state is not None:
            await _repair_bucket(state, found, inspection)
            await _repair_markers(state, found, inspection)
            await _repair_answers(found, inspection, index, events, shards)
            await index.apply(_row_writes(state, found, shards))
        elif image_id.int == 0:
            days = [day for day in inspection.fold.days if any(str(day) == each.detail for each in found)]
            await index.apply([day_insert(day, 1) for day in days])
    await inspection.catch_up()
    return await inspection.check_again(each for found in by_image.values() for each in found)


async def _repair_bucket(state: ImageState, found: Sequence[Difference], inspection: Inspection) -> None:
    """Finish a deletion: write the tombstone, then delete the objects, like the processor (invariant 6)."""
    if state.is_removed and any(each.where not in (*IMAGE_TABLES, DAYS) for each in found):
        key = tombstone_key(state.image_id)
        if any(each.where == key and each.kind is Kind.WRONG for each in found):
            # The tombstone is invalid. A processor that reads it dead-letters its command.
            await inspection.store.delete([key])
        await put_tombstone(inspection.store, state.image_id, state.deleted)
        await delete_image(inspection.store, state.image_id)


async def _repair_markers(state: ImageState, found: Sequence[Difference], inspection: Inspection) -> None:
    """Write the missing markers from the manifests."""
    store, current = inspection.store, state.value("current")
    if current is None or all(each.where != markers_prefix(state.image_id) for each in found):
        return
    await complete_markers(store, state.image_id)
    served = await read_manifest(store, manifest_key(state.image_id, current.revision, current.render))
    if served is not None:
        await mark_ready(store, served)
    if await read_tombstone(store, state.image_id) is not None:
        # A deletion may have missed the markers.
        await delete_image(store, state.image_id)


async def _repair_answers(
    found: Sequence[Difference], inspection: Inspection, index: Index, events: EventLog, shards: int
) -> None:
    """Publish the answer of each manifest that has no answer in the log. A manifest contains the full answer."""
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
    """Advice how to repair a difference, in one sentence."""
    kind, where = difference.kind, difference.where
    if where in ADVICE:
        text = ADVICE[where]
    elif kind is Kind.UNANSWERED:
        text = ADVICE[LOG]
    elif where.startswith(TOMBSTONES_PREFIX):
        text = "if a client deleted the image: DELETE /images/{image} again; otherwise delete this object"
    elif where == markers_prefix(difference.image_id):
        text = "imagepipe verify --repair writes the missing markers"
    elif kind is Kind.EXTRA:
        text = "imagepipe gc lists unknown objects, and deletes them with --apply"
    elif kind is Kind.WRONG and is_manifest(where):
        text = f"delete {where.removesuffix(MANIFEST_NAME)} with all objects in it, then {RENDER_AGAIN}"
    elif "original." in where:
        text = "restore the object from a copy of the bucket: these bytes are nowhere else"
    else:
        text = RENDER_AGAIN
    return text.format(image=difference.image_id)
