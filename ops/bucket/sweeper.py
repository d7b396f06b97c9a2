"""The sweep: finds and deletes superseded objects. It may run during live traffic, and beside another sweep."""

from dataclasses import dataclass, field
from datetime import UTC, datetime

from ops.bucket.listing import MANIFESTS_AT_ONCE, BucketImage, read_manifest, walk_images
from ops.bucket.superseded import FoundManifest, deciding_manifests, may_have_superseded, superseded
from ops.terminal.output import Output
from shared.concurrency import for_each
from shared.ports import ObjectInfo
from shared.s3.store import S3Store
from shared.settings import Settings


@dataclass
class Swept:
    """The superseded objects that a sweep found. `size` in bytes."""

    images: int = 0
    objects: int = 0
    size: int = 0
    keys: list[str] = field(default_factory=list)

    def add(self, deletable: list[ObjectInfo]) -> None:
        """Add the superseded objects of one image."""
        self.images += 1
        self.objects += len(deletable)
        self.size += sum(info.size for info in deletable)
        self.keys += [info.key for info in deletable]


class Sweeper:
    """One sweep of the bucket. The methods raise Unavailable."""

    def __init__(self, settings: Settings, store: S3Store, output: Output) -> None:
        self._settings = settings
        self._store = store
        self._output = output
        self._now = datetime.now(UTC)

    async def run(self, apply: bool) -> Swept:
        """Find all superseded objects, and delete them if `apply` is set.

        1. An image with one original and one render needs no read of its manifests.
        2. The manifests decide which objects are superseded. They are never deleted.
        3. Deleting a missing object is no error. So a sweep may be interrupted, and two may run at the same time.
        """
        swept = Swept()
        with self._output.progress("Sweep", None) as advance:
            async for image in walk_images(self._store):
                advance()
                if may_have_superseded(image):
                    await self._sweep(image, swept, apply)
        return swept

    async def _sweep(self, image: BucketImage, swept: Swept, apply: bool) -> None:
        manifests = await self._manifests(image)
        deletable = superseded(image, manifests, now=self._now, delay=self._settings.sweep_delay)
        if deletable:
            swept.add(deletable)
            if apply:
                await self._store.delete([info.key for info in deletable])

    async def _manifests(self, image: BucketImage) -> dict[str, FoundManifest]:
        found: dict[str, FoundManifest] = {}

        async def read(info: ObjectInfo) -> None:
            manifest = await read_manifest(self._store, info.key)
            if manifest is not None:
                found[info.key] = FoundManifest(manifest, info.modified)

        await for_each(deciding_manifests(image), read, MANIFESTS_AT_ONCE)
        return found
