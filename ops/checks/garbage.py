"""Finds garbage: objects without a row, command and manifest, rows without objects, and expired tombstones."""

from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from uuid import UUID

from ops.bucket.listing import BucketImage, pages, read_manifest, tombstones, walk_images
from ops.checks.differences import Difference, Kind, check_objects, unexpected_objects
from ops.index.rows import Rows
from ops.log.fold import Fold, ImageState
from ops.log.reader import read_topic
from ops.log.skipped import Skipped
from ops.terminal.output import Output
from shared.cassandra.index import CassandraIndex
from shared.contract.keys import TOMBSTONES_PREFIX, parse_marker
from shared.read_model.documents import ImageRow
from shared.read_model.tables import IMAGES
from shared.s3.store import S3Store
from shared.settings import Settings, Topic


@dataclass
class Garbage:
    """The garbage that was found. `objects` maps each key to the reason; `size` in bytes."""

    objects: dict[str, str] = field(default_factory=dict)
    size: int = 0
    rows_without_objects: list[UUID] = field(default_factory=list)
    expired_tombstones: list[str] = field(default_factory=list)
    skipped: Skipped = field(default_factory=Skipped)

    def add(self, extra: Difference, image: BucketImage) -> None:
        """Add an object of an image."""
        self.objects[extra.where] = extra.detail
        self.size += image.sizes[extra.where]


class Collector:
    """Finds garbage and deletes nothing. An object is garbage only if neither log, row nor manifest names it."""

    def __init__(self, settings: Settings, store: S3Store, output: Output, older_than: timedelta) -> None:
        """`older_than` is the minimum age of an object that is checked. Its command follows it within seconds."""
        self._settings = settings
        self._store = store
        self._output = output
        self._older_than = older_than
        self._now = datetime.now(UTC)

    async def run(self) -> Garbage:
        """All garbage in the deployment. Raises Unavailable.

        1. The log is read to its end. Only objects that were stored long before that are checked.
        2. An object of a revision without a record in the log is garbage if the revision is neither in the image's row
           nor in a manifest.
        3. An unexpected object in a known revision is garbage; see `unexpected_objects`.
        4. The remaining objects of a deleted image are garbage, because a deletion is final.
        """
        fold, seen = await self._fold(), set[UUID]()
        garbage = Garbage(skipped=fold.skipped)
        index = await CassandraIndex.open(self._settings)
        deleted_ids = await tombstones(self._store)
        try:
            with self._output.progress("Check the bucket", None) as advance:
                async for image in walk_images(self._store):
                    seen.add(image.image_id)
                    advance()
                    await self._check(
                        image, fold.images.get(image.image_id), image.image_id in deleted_ids, index, garbage
                    )
        finally:
            await index.close()
        garbage.rows_without_objects = await self._rows_without_objects(seen)
        garbage.expired_tombstones = await self._expired_tombstones()
        return garbage

    async def _check(
        self, image: BucketImage, state: ImageState | None, has_tombstone: bool, index: CassandraIndex, garbage: Garbage
    ) -> None:
        found = check_objects(
            state, image, now=self._now, grace=self._older_than, has_tombstone=has_tombstone,
            tombstones_stay=self._settings.tombstone_retention,
        )  # fmt: skip
        extras = [each for each in found if each.kind is Kind.EXTRA and each.where in image.sizes]
        if not extras:
            return
        deleted = has_tombstone or (state is not None and state.is_removed)
        row = None if deleted else await index.image(image.image_id)
        unexpected = {info.key for info in unexpected_objects(state, image)} if state is not None else set()
        for extra in extras:
            if deleted or extra.where in unexpected or not await self._is_known(extra, image, row):
                garbage.add(extra, image)

    async def _is_known(self, extra: Difference, image: BucketImage, row: ImageRow | None) -> bool:
        """Whether the row or a manifest of the image has the revision of the object."""
        marker = parse_marker(extra.where)
        for revision, folder in image.revisions.items():
            if f"/{revision}/" not in extra.where and (marker is None or marker.revision != revision):
                continue
            if row and revision in {group.revision for group in (row.request, row.current) if group}:
                return True
            manifests = [render.manifest for render in folder.renders.values() if render.manifest]
            return any([await read_manifest(self._store, info.key) for info in manifests])
        return False

    async def _fold(self) -> Fold:
        fold = Fold(self._settings.epoch)
        await read_topic(self._settings, Topic.COMMANDS, fold.add_commands, self._output)
        await read_topic(self._settings, Topic.EVENTS, fold.add_events, self._output)
        return fold

    async def _rows_without_objects(self, seen: set[UUID]) -> list[UUID]:
        rows = await Rows.open(self._settings)
        try:
            return [
                row.image_id
                async for page in rows.scan(IMAGES)
                for row in page
                if row.image_id not in seen and row.uploaded_at and self._now - row.uploaded_at >= self._older_than
            ]
        finally:
            await rows.close()

    async def _expired_tombstones(self) -> list[str]:
        """Tombstones after their retention. The bucket's lifecycle deletes them; some stores have no lifecycle."""
        limit = self._now - self._settings.tombstone_retention - timedelta(days=1)
        return [
            info.key async for page in pages(self._store, TOMBSTONES_PREFIX) for info in page if info.modified < limit
        ]
