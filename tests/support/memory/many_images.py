"""Thousands of images in a pipeline in memory, made from a few that were rendered."""

import bisect
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from uuid import UUID

from shared.contract.events import Current, Request
from shared.contract.keys import Owner, Partition
from shared.read_model.documents import ImageRow
from tests.support.memory.live import LivePipeline

PER_DAY = 700


def image_id_at(moment: datetime, number: int) -> UUID:
    """A UUIDv7 of this time."""
    milliseconds = int(moment.timestamp() * 1000)
    return UUID(int=milliseconds << 80 | 7 << 76 | (number & 0xFFF) << 64 | 2 << 62 | number)


def multiply(pipeline: LivePipeline, ids: Sequence[str], count: int) -> None:
    """Copy these ready images, with their files, until their owner has `count`, over the last days."""
    rows = [row for each in ids if (row := pipeline.row(UUID(each))) is not None]
    now = datetime.now(UTC)
    made: dict[UUID, ImageRow] = {}
    for number in range(count - len(rows)):
        moment = now - timedelta(days=1 + number // PER_DAY, seconds=number)
        row = rows[number % len(rows)]
        image_id = image_id_at(moment, number)
        made[image_id] = _copy(pipeline, row, image_id, moment)
    _serve(pipeline, rows[0].owner, made | {row.image_id: row for row in rows})


def _copy(pipeline: LivePipeline, row: ImageRow, image_id: UUID, moment: datetime) -> ImageRow:
    def path_of(path: str) -> str:
        copied = path.replace(str(row.image_id), str(image_id))
        pipeline.store.objects[copied] = pipeline.store.objects[path]
        return copied

    assert row.current is not None
    assert row.request is not None
    original = row.current.original.model_copy(update={"path": path_of(row.current.original.path)})
    variants = tuple(each.model_copy(update={"path": path_of(each.path)}) for each in row.current.variants)
    current: Current = row.current.model_copy(update={"original": original, "variants": variants})
    request: Request = row.request.model_copy(update={"path": original.path})
    return ImageRow(image_id, row.owner, moment, row.image_version, request, row.outcome, current)


def _serve(pipeline: LivePipeline, owner: Owner, rows: dict[UUID, ImageRow]) -> None:
    """Read this owner's rows from a sorted list: the index in memory would read all rows for each page."""
    index = pipeline.index
    ascending = sorted(rows)
    plain_ids, plain_rows, plain_image = index.ids, index.rows, index.image
    plain_of_owner = index.of_owner

    async def page_ids(
        partition: Partition, *, below: UUID | None = None, above: UUID | None = None, limit: int = 50
    ) -> Sequence[UUID]:
        if partition != owner:
            return await plain_ids(partition, below=below, above=above, limit=limit)
        end = len(ascending) if below is None else bisect.bisect_left(ascending, below)
        return ascending[max(0, end - limit) : end][::-1]

    async def some_rows(partition: Partition, ids: Sequence[UUID]) -> Sequence[ImageRow]:
        return [rows[each] for each in ids] if partition == owner else await plain_rows(partition, ids)

    async def of_owner(
        asked: Owner, *, below: UUID | None = None, above: UUID | None = None, limit: int = 50
    ) -> Sequence[ImageRow]:
        if asked != owner:
            return await plain_of_owner(asked, below=below, above=above, limit=limit)
        return [rows[each] for each in await page_ids(owner, below=below, above=above, limit=limit)]

    async def image(image_id: UUID) -> ImageRow | None:
        return rows.get(image_id) or await plain_image(image_id)

    index.ids, index.rows, index.image = page_ids, some_rows, image  # type: ignore[method-assign]
    index.of_owner = of_owner  # type: ignore[assignment, method-assign]
