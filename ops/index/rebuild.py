"""Rebuilds the index in a separate keyspace: from the log, or from the manifests if the log is lost too."""

import hashlib
from collections.abc import AsyncIterator, Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date
from typing import Any
from uuid import UUID

from ops.bucket.listing import MANIFESTS_AT_ONCE, BucketImage, read_manifest, tombstones, walk_images
from ops.index.rows import Rows, StoredRow, state_writes
from ops.log.fold import Fold, ImageState
from ops.log.reader import Offsets, TopicReader, read_topic
from ops.log.skipped import Skipped
from ops.terminal.output import Output
from shared.cassandra.index import CassandraIndex
from shared.concurrency import for_each
from shared.consuming.record import ConsumedRecord
from shared.contract.encoding import decode_event
from shared.contract.events import OwnerCleared
from shared.contract.keys import day_of
from shared.contract.logged_command import LoggedFence, read_command
from shared.errors import PoisonRecord
from shared.ports import ObjectInfo
from shared.read_model.tables import IMAGE_TABLES, Write, command_writes, day_insert, event_writes, fence_insert
from shared.s3.store import S3Store
from shared.settings import Settings, Topic

AT_ONCE = 256
"""Images that are written concurrently. Each has about nine writes."""


@dataclass
class Rebuilt:
    """The counts of a rebuild. `positions` are the offsets up to which each topic was read."""

    records: int = 0
    images: int = 0
    skipped_deleted: int = 0
    originals_without_manifest: int = 0
    positions: dict[Topic, Offsets] = field(default_factory=dict)
    skipped: Skipped = field(default_factory=Skipped)


class Rebuild:
    """Writes all rows to one keyspace. It may be repeated, because every write has a version of the log.

    The methods raise Unavailable.
    """

    def __init__(self, settings: Settings, target: CassandraIndex, store: S3Store, output: Output) -> None:
        self._settings = settings
        self.target = target
        self._store = store
        self._output = output
        self._tombstones: set[UUID] = set()
        self.done = Rebuilt()

    async def from_log(self, slices: int) -> None:
        """Fold the log, in slices of the images, and write the final rows of each image.

        An image with a tombstone in the bucket is skipped (invariant 6). For an image that is deleted in the log the
        deletion is written.
        """
        self._tombstones = await tombstones(self._store)
        for number in range(slices):
            fold = Fold(self._settings.epoch, number, slices)
            await self._read(Topic.COMMANDS, fold.add_commands)
            await self._read(Topic.EVENTS, fold.add_events)
            # Every slice reads the same records.
            self.done.skipped = fold.skipped
            await self._write_fold(fold)

    async def _read(self, topic: Topic, add: Callable[[Sequence[ConsumedRecord]], None]) -> None:
        def take(records: Sequence[ConsumedRecord]) -> None:
            add(records)
            self.done.records += len(records)

        # Later slices stop at the end of the first one, so that `follow` starts at the same position for all slices.
        end = self.done.positions.get(topic)
        self.done.positions[topic] = await read_topic(self._settings, topic, take, self._output, end=end)

    async def _write_fold(self, fold: Fold) -> None:
        days = [day_insert(day, 1) for day in fold.days]
        await self.target.apply([*days, *fence_writes(fold, self._tombstones)])
        with self._output.progress("Write images", len(fold.images)) as advance:

            async def write(state: ImageState) -> None:
                if state.image_id in self._tombstones and not state.is_removed:
                    self.done.skipped_deleted += 1
                else:
                    await self.target.apply(state_writes(state, self._settings.day_shards))
                    self.done.images += not state.is_removed
                advance()

            # Rows of one partition that wait at the same time share a request.
            await for_each(sorted(fold, key=_day_and_owner), write, AT_ONCE)

    async def from_bucket(self) -> None:
        """Write the rows of every manifest. Images without a manifest were never rendered; they are only counted."""
        self._tombstones = await tombstones(self._store)

        async def write(image: BucketImage) -> None:
            if image.image_id in self._tombstones:
                self.done.skipped_deleted += 1
                return
            await self._write_manifests(image)

        with self._output.progress("Read manifests", None) as advance:

            async def images() -> AsyncIterator[BucketImage]:
                async for image in walk_images(self._store):
                    yield image
                    advance()

            await for_each(images(), write, AT_ONCE)

    async def _write_manifests(self, image: BucketImage) -> None:
        written = 0

        async def write(info: ObjectInfo) -> None:
            nonlocal written
            manifest = await read_manifest(self._store, info.key)
            if manifest is not None:
                await self.target.apply(event_writes(manifest.event, self._settings.day_shards))
                written += 1

        await for_each(image.manifests(), write, MANIFESTS_AT_ONCE)
        self.done.records += written
        if written:
            self.done.images += 1
        else:
            self.done.originals_without_manifest += 1

    async def follow(self, targets: Iterable[CassandraIndex]) -> int:
        """Apply the new records of the log to all targets; returns their number."""
        applied = 0
        writers = list(targets)
        for topic in (Topic.COMMANDS, Topic.EVENTS):
            async with TopicReader(self._settings, topic) as reader:
                start, end = self.done.positions[topic], await reader.ends()
                async for batch in reader.read(start, end):
                    writes = [write for record in batch for write in self._writes(topic, record)]
                    for target in writers:
                        await for_each(([write] for write in writes), target.apply, 8 * AT_ONCE)
                    applied += len(batch)
                self.done.positions[topic] = end
        self.done.records += applied
        return applied

    def _writes(self, topic: Topic, record: ConsumedRecord) -> list[Write]:
        try:
            if topic is Topic.COMMANDS:
                # A fence writes only its record, because its deletions are in the log.
                return command_writes(read_command(record, self._settings.epoch), self._settings.day_shards)
            return [] if record.value is None else event_writes(decode_event(record.value), self._settings.day_shards)
        except PoisonRecord as error:
            self.done.skipped.add(record, error)
            return []


def _day_and_owner(state: ImageState) -> tuple[date, str]:
    return day_of(state.image_id), state.owner.key


def fence_writes(fold: Fold, tombstones: Collection[UUID]) -> list[Write]:
    """Records of the fences that are not carried out yet: each still covers an image without a tombstone.

    Other records would hide nothing. A record holds an owner key, and the log may have the fence of an erased owner.
    """
    bounds = {owner: _bound(fences) for owner, fences in fold.fences.items()}
    owners = {
        state.owner
        for state in fold
        if not state.is_removed
        and state.image_id not in tombstones
        and (state.value("image_version") or 0) < bounds.get(state.owner.key, 0)
    }
    return [fence_insert(owner, bounds[owner.key]) for owner in owners]


def _bound(fences: Mapping[int, OwnerCleared]) -> int:
    """The highest bound of these fences, by their versions; 0 if none of them has a record."""
    bounds = [LoggedFence(fence, version).before for version, fence in fences.items() if not fence.keep]
    return max(bounds, default=0)


@dataclass(frozen=True)
class RowDifference:
    """A row that differs between two keyspaces."""

    kind: str
    table: str
    image_id: UUID

    def document(self) -> dict[str, str]:
        """The difference as a JSON object."""
        return {"kind": self.kind, "table": self.table, "image_id": str(self.image_id)}


async def compare(settings: Settings, live: str, rebuilt: str, output: Output) -> list[RowDifference]:
    """Rows whose values or timestamps differ between the live and the rebuilt keyspace. Raises Unavailable.

    It needs about 150 bytes of memory for each row. Live traffic may cause differences: compare again after a while.
    """
    old, new = await Rows.open(settings, live), await Rows.open(settings, rebuilt)
    try:
        found: list[RowDifference] = []
        for table in IMAGE_TABLES:
            with output.progress(f"Compare {table}", None) as advance:
                rows: dict[tuple[Any, ...], tuple[UUID, bytes]] = {}
                async for page in new.scan(table):
                    rows |= {row.key: (row.image_id, digest(row)) for row in page}
                async for page in old.scan(table):
                    for row in page:
                        there = rows.pop(row.key, None)
                        if there is None:
                            found.append(RowDifference("only in live", table, row.image_id))
                        elif there[1] != digest(row):
                            found.append(RowDifference("different", table, row.image_id))
                    advance(len(page))
                found += [RowDifference("only in rebuilt", table, image_id) for image_id, _ in rows.values()]
        return found
    finally:
        await old.close()
        await new.close()


def digest(row: StoredRow) -> bytes:
    """Hash of a row's values and timestamps."""
    return hashlib.blake2b(repr(sorted(row.cells.items())).encode(), digest_size=16).digest()
