"""Finds all differences between log, index and bucket.

A difference may come from a command that is still being handled, so `settled` checks the differences again.
"""

import asyncio
import hashlib
from collections import defaultdict
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from datetime import UTC, datetime, timedelta
from uuid import UUID

from ops.bucket.listing import (
    MANIFESTS_AT_ONCE,
    BucketImage,
    image_in,
    read_manifest,
    sort_objects,
    tombstones,
    walk_images,
)
from ops.checks.differences import (
    Difference,
    Kind,
    check_manifests,
    check_objects,
    check_row,
    check_unanswered,
    checksums,
    is_in_place,
    missing_rows,
)
from ops.index.rows import Rows
from ops.log.dead_letter_queue import DROPPED, DeadLetter, Entries
from ops.log.fold import Fold, ImageState
from ops.log.reader import Offsets, read_topic, topic_ends
from ops.terminal.output import Output
from processor.results import read_tombstone
from shared.cassandra.index import CassandraIndex
from shared.concurrency import for_each
from shared.consuming.record import ConsumedRecord
from shared.contract.keys import IMAGES_PREFIX, image_prefix, tombstone_key
from shared.errors import NotFound, PoisonRecord
from shared.ports import ObjectInfo
from shared.read_model.tables import IMAGE_TABLES
from shared.s3.store import S3Store
from shared.settings import Settings, Topic

AT_ONCE = 32
"""Images whose objects are read concurrently. It limits the memory to about 32 originals."""


class Inspection:
    """One check of a deployment, or of one part of its images: number `slice_number` of `slices`.

    The methods raise Unavailable.
    """

    def __init__(
        self,
        settings: Settings,
        rows: Rows,
        store: S3Store,
        output: Output,
        *,
        grace: timedelta,
        with_checksums: bool,
        slice_number: int = 0,
        slices: int = 1,
    ) -> None:
        self.fold = Fold(settings.epoch, slice_number, slices)
        self.settings = settings
        self.rows = rows
        self.store = store
        self._output = output
        self._grace = grace
        self._with_checksums = with_checksums
        self._read: dict[Topic, Offsets] = {}
        self._tombstones: set[UUID] = set()
        self._entries = Entries(_command_of, self._settle)
        self._dead: dict[str, dict[int, str]] = {}
        """Maps an image (for a fence: an owner) and a version to the name of the dead letter that is still open.

        A dead letter is open until it is redriven or dropped.
        """

    async def run(self) -> list[Difference]:
        """Find all differences. Some of them may be caused by running commands: see `settled`.

        The log is read first. A row or an object that is written while this method runs is later than the log that was
        read, so it appears as a difference. `settled` reads the log again and removes such differences.
        """
        await self.catch_up()
        return [*await self._check_tables(), *await self._check_bucket(), *self._check_answers()]

    async def settled(self, differences: Sequence[Difference], pause: float, checks: int = 3) -> list[Difference]:
        """Check the differences again, up to `checks` times; returns those that remain.

        Before each check this method waits `pause` seconds and reads the new records of the log.
        """
        for _ in range(checks):
            if not differences:
                break
            await asyncio.sleep(pause)
            await self.catch_up()
            differences = await self.check_again(differences)
        return list(differences)

    async def catch_up(self) -> None:
        """Read the new records of the commands, the events and the DLQ, and list the tombstones.

        An answer and a DLQ entry are appended after their command. Therefore the ends of these topics are taken before
        the end of the commands: every answer that is read here belongs to a command that has been read. An answer that
        was read before its command would be lost, and the command would count as unanswered.
        """
        ends = {topic: await topic_ends(self.settings, topic) for topic in (Topic.EVENTS, Topic.DLQ)}
        await self._read_on(Topic.COMMANDS, self.fold.add_commands)
        await self._read_on(Topic.EVENTS, self.fold.add_events, ends[Topic.EVENTS])
        await self._read_on(Topic.DLQ, self._entries.add, ends[Topic.DLQ])
        self._dead = {}
        for name, (about, version) in self._entries.open.items():
            self._dead.setdefault(about, {})[version] = name
        self._tombstones = await tombstones(self.store)

    async def _read_on(
        self, topic: Topic, take: Callable[[Sequence[ConsumedRecord]], None], end: Offsets | None = None
    ) -> None:
        start = self._read.get(topic)
        self._read[topic] = await read_topic(self.settings, topic, take, self._output, start=start, end=end)

    def _settle(self, command: tuple[str, int], action: str) -> None:
        if action == DROPPED:
            self.fold.drop(*command)

    def _check_unanswered(self, state: ImageState) -> Iterable[Difference]:
        image, owner = str(state.image_id), state.owner.key
        dead = self._dead.get(image, {}) | self._dead.get(owner, {})
        return check_unanswered(state, self.fold.fences.get(owner, {}), dead)

    async def _check_tables(self) -> list[Difference]:
        found: list[Difference] = []
        shards = self.settings.day_shards
        for table in IMAGE_TABLES:
            in_place: set[UUID] = set()
            with self._output.progress(f"Compare {table}", None) as advance:
                async for page in self.rows.scan(table):
                    for row in page:
                        if self.fold.covers(row.image_id):
                            state = self.fold.images.get(row.image_id)
                            found += check_row(state, row, shards)
                            if state is not None and is_in_place(state, row, shards):
                                in_place.add(row.image_id)
                    advance(len(page))
            for state in self.fold:
                if state.image_id not in in_place:
                    found += [each for each in missing_rows(state, ()) if each.where == table]
        return found + await self._check_days()

    async def _check_days(self) -> list[Difference]:
        index = await CassandraIndex.open(self.settings)
        try:
            stored = set(await index.days())
        finally:
            await index.close()
        missing = sorted(self.fold.days - stored)
        # A listed day without images is no difference: deletions leave such days.
        return [Difference(Kind.MISSING, "image_days", UUID(int=0), str(day)) for day in missing]

    def _check_answers(self) -> list[Difference]:
        return [each for state in self.fold for each in self._check_unanswered(state)]

    async def _check_bucket(self) -> list[Difference]:
        seen: set[UUID] = set()

        async def covered() -> AsyncIterator[BucketImage]:
            async for image in walk_images(self.store):
                if self.fold.covers(image.image_id):
                    seen.add(image.image_id)
                    yield image

        async def absent() -> AsyncIterator[BucketImage]:
            for state in self.fold:
                if state.image_id not in seen:
                    yield BucketImage(state.image_id)

        async def check(image: BucketImage) -> None:
            found.extend(await self._check_image(image))
            advance()

        found: list[Difference] = []
        with self._output.progress("Compare the bucket", None) as advance:
            for images in (covered(), absent()):
                await for_each(images, check, AT_ONCE)
        return found

    async def _check_image(self, image: BucketImage) -> list[Difference]:
        state, has_tombstone = self.fold.images.get(image.image_id), image.image_id in self._tombstones
        now, stay = datetime.now(UTC), self.settings.tombstone_retention
        found = list(
            check_objects(state, image, now=now, grace=self._grace, has_tombstone=has_tombstone, tombstones_stay=stay)
        )
        if has_tombstone and self._with_checksums:
            found += await self._check_tombstone(image.image_id)
        if state is not None and not state.is_removed:
            found += await self._check_manifests(state, image)
            if self._with_checksums:
                found += await self._check_contents(state, image)
        return found

    async def _check_manifests(self, state: ImageState, image: BucketImage) -> list[Difference]:
        found: list[Difference] = []

        async def check(info: ObjectInfo) -> None:
            found.extend(check_manifests(state, {info.key: await read_manifest(self.store, info.key)}))

        await for_each(image.manifests(), check, MANIFESTS_AT_ONCE)
        return found

    async def _check_tombstone(self, image_id: UUID) -> list[Difference]:
        try:
            await read_tombstone(self.store, image_id)
        except PoisonRecord as error:
            return [Difference(Kind.WRONG, tombstone_key(image_id), image_id, str(error))]
        return []

    async def _check_contents(self, state: ImageState, image: BucketImage) -> list[Difference]:
        found = []
        for key, expected in checksums(state).items():
            if key not in image.sizes:
                continue
            try:
                data = await self.store.get(key)
            except NotFound:
                continue
            actual = hashlib.sha256(data).hexdigest()
            if actual != expected:
                detail = f"SHA-256 is {actual[:12]}..., but {expected[:12]}... in the log"
                found.append(Difference(Kind.CHECKSUM, key, image.image_id, detail))
        return found

    async def check_again(self, differences: Iterable[Difference]) -> list[Difference]:
        """Check the images, rows and folders of these differences again; returns the differences that they have now.

        It does not read the log again. Call `catch_up` before.
        """
        by_image: dict[UUID, list[Difference]] = defaultdict(list)
        for each in differences:
            by_image[each.image_id].append(each)
        found: list[Difference] = []
        for image_id, known in sorted(by_image.items()):
            if image_id.int == 0:
                found += await self._check_days()
                found += await self._check_misnamed_folders(known)
                continue
            state = self.fold.images.get(image_id)
            image = sort_objects(image_id, await self.store.list(image_prefix(image_id)))
            found += await self._check_image(image)
            found += await self._check_rows(image_id, state, known)
            found += self._check_unanswered(state) if state else []
        return found

    async def _check_misnamed_folders(self, known: Iterable[Difference]) -> list[Difference]:
        """Check the folders of `images/` whose names are not image ids."""
        found: list[Difference] = []
        for folder in sorted({each.where.split("/")[1] for each in known if each.where.startswith(IMAGES_PREFIX)}):
            stored = await self.store.list(f"{IMAGES_PREFIX}{folder}")
            image = image_in(folder, [info for info in stored if info.key.split("/")[1] == folder])
            found += await self._check_image(image)
        return found

    async def _check_rows(
        self, image_id: UUID, state: ImageState | None, known: Iterable[Difference]
    ) -> list[Difference]:
        """Check an image's rows: under the expected primary keys, and under those at which differences were found."""
        shards = self.settings.day_shards
        places = [(each.where, each.key) for each in known if each.key is not None]
        rows = await self.rows.of_image(image_id, state.owner if state else None, shards, places)
        found = [each for row in rows for each in check_row(state, row, shards)]
        if state is not None:
            found += missing_rows(state, [row.table for row in rows if is_in_place(state, row, shards)])
        return found


def _command_of(letter: DeadLetter) -> tuple[str, int] | None:
    """What an entry's command is about, the image or for a fence the owner, and its version; None for other records."""
    about = letter.content["image_id"] or letter.content["owner"]
    version = letter.number("dlq-version")
    return None if about is None or version is None else (about, version)


def by_kind(differences: Iterable[Difference]) -> dict[str, int]:
    """Number of differences of each kind."""
    counts: dict[str, int] = defaultdict(int)
    for each in differences:
        counts[each.kind.value] += 1
    return dict(sorted(counts.items()))
