"""Walks the bucket and removes what is superseded. May run beside live traffic, and beside another sweep."""

from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from uuid import UUID

from ops.bucket import BucketImage, read_manifest, walk_images
from ops.output import Advance, Output
from ops.sweep import FoundManifest, best_ready, in_order, may_have_superseded, superseded, unknown_revisions
from ops.topic_reader import TopicReader, headers_of
from shared.errors import PoisonRecord
from shared.events import Replaced, Reprocess, Uploaded, decode_command, record_version
from shared.ports import ObjectInfo
from shared.settings import Settings, Topic
from shared.storage import S3Store

MARGIN = timedelta(hours=1)
"""A command is looked for from this long before its original was stored: clocks of brokers and bucket may differ.
It bounds a search only; what is older is decided by versions."""


@dataclass
class Swept:
    """What a sweep found, and removed if it was to. `size` in bytes."""

    images: int = 0
    objects: int = 0
    size: int = 0
    keys: list[str] = field(default_factory=list)

    def add(self, doomed: list[ObjectInfo]) -> None:
        """Count what one image has."""
        self.images += 1
        self.objects += len(doomed)
        self.size += sum(info.size for info in doomed)
        self.keys += in_order(doomed)


class Sweeper:
    """One sweep. Methods raise Unavailable."""

    def __init__(self, settings: Settings, store: S3Store, output: Output) -> None:
        self._settings = settings
        self._store = store
        self._output = output
        self._now = datetime.now(UTC)

    async def run(self, apply: bool) -> Swept:
        """Find, and with `apply` delete, everything that is superseded.

        1. An image with one revision and one render is passed by without a read.
        2. The manifests decide. Where an original has none, because its request was superseded before it was rendered,
           the log tells the version of its revision.
        3. Each image's objects are deleted at once, manifests last; deleting again what is gone is no error.
        """
        swept = Swept()
        undecided: list[tuple[BucketImage, dict[str, FoundManifest]]] = []
        with self._output.progress("Sweep", None) as advance:
            async for image, manifests in self._candidates(advance):
                if unknown_revisions(image, manifests) and best_ready(
                    manifests.values(), self._now - self._settings.sweep_delay
                ):
                    undecided.append((image, manifests))
                else:
                    await self._sweep(image, manifests, {}, swept, apply)
        if undecided:
            introduced = await self._introduced(undecided)
            for image, manifests in undecided:
                await self._sweep(image, manifests, introduced, swept, apply)
        return swept

    async def _candidates(self, advance: Advance) -> AsyncIterator[tuple[BucketImage, dict[str, FoundManifest]]]:
        async for image in walk_images(self._store):
            advance()
            if may_have_superseded(image):
                yield image, await self._manifests(image)

    async def _manifests(self, image: BucketImage) -> dict[str, FoundManifest]:
        found = {}
        for info in image.manifests():
            manifest = await read_manifest(self._store, info.key)
            if manifest is not None:
                found[info.key] = FoundManifest(manifest, info.modified)
        return found

    async def _sweep(
        self,
        image: BucketImage,
        manifests: dict[str, FoundManifest],
        introduced: dict[UUID, int],
        swept: Swept,
        apply: bool,
    ) -> None:
        doomed = superseded(image, manifests, introduced, now=self._now, delay=self._settings.sweep_delay)
        if not doomed:
            return
        swept.add(doomed)
        if apply:
            await delete_in_order(self._store, doomed)

    async def _introduced(self, undecided: list[tuple[BucketImage, dict[str, FoundManifest]]]) -> dict[UUID, int]:
        """Introducing versions of the revisions that no manifest tells, from the commands topic."""
        wanted: dict[UUID, ObjectInfo] = {}
        for image, manifests in undecided:
            wanted |= unknown_revisions(image, manifests)
        oldest = min(info.modified for info in wanted.values()) - MARGIN
        found: dict[UUID, int] = {}
        async with TopicReader(self._settings, self._settings.topic(Topic.COMMANDS)) as reader:
            async for batch in reader.read(await reader.at(oldest), await reader.ends()):
                for record in batch:
                    try:
                        command = decode_command(record.value)
                        version = record_version(command, self._settings.epoch, record.offset, headers_of(record))
                    except PoisonRecord:
                        continue
                    if isinstance(command, Uploaded | Replaced) and command.revision in wanted:
                        found[command.revision] = max(version, found.get(command.revision, -1))
                    elif isinstance(command, Reprocess) and command.revision in wanted:
                        found.setdefault(command.revision, command.revision_version)
        return found


async def delete_in_order(store: S3Store, doomed: list[ObjectInfo]) -> None:
    """Delete an image's objects, the manifests after everything else is gone. Raises Unavailable."""
    keys = in_order(doomed)
    manifests = [key for key in keys if key.endswith("/manifest.json")]
    await store.delete(keys[: len(keys) - len(manifests)])
    await store.delete(manifests)
