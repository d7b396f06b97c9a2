"""Which commands are finished: answered in the log, with their result in the bucket. Learnt in bulk, not one by one."""

from collections.abc import Collection, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from uuid import UUID

from ops.bucket.listing import pick
from ops.log.reader import read_topic
from ops.terminal.output import Advance, Output
from shared.concurrency import for_each
from shared.consuming.record import ConsumedRecord
from shared.contract.encoding import decode_event
from shared.contract.events import answer_key
from shared.contract.keys import IMAGES_PREFIX, TOMBSTONES_PREFIX, is_manifest, manifest_key
from shared.contract.logged_command import LoggedImageCommand, LoggedRenderCommand
from shared.errors import PoisonRecord
from shared.s3.store import S3Store
from shared.settings import Settings, Topic

WALKS = 4
"""Parts of the listing that are read side by side: while one is parsed, the store works on others."""
CLOCKS_APART = timedelta(hours=1)
"""How much earlier than its command an answer may look; of an earlier one its command is handled again."""


@dataclass(frozen=True, slots=True)
class Asked:
    """What a command of the log asked for. `place`: partition and offset; `time` in ms since 1970."""

    place: tuple[int, int]
    time: int
    type: str
    image_id: UUID
    version: int
    result: str | None
    """Key of the manifest that there is once it is done; None for a deletion."""

    @classmethod
    def by(cls, record: ConsumedRecord, logged: LoggedImageCommand) -> "Asked":
        """What this command asked for."""
        command, result = logged.command, None
        if isinstance(logged, LoggedRenderCommand):
            result = manifest_key(command.image_id, logged.command.revision, logged.render)
        place = (record.partition, record.offset)
        return cls(place, record.timestamp, command.type, command.image_id, logged.version, result)


@dataclass
class Snapshot:
    """What the log and the bucket said of some images when it was taken."""

    answered: set[tuple[UUID, int]] = field(default_factory=set)
    """Images with the versions of answered commands: commands of two partitions may have one version."""
    manifests: set[str] = field(default_factory=set)
    occupied: set[UUID] = field(default_factory=set)
    """Images that have any object."""
    buried: set[UUID] = field(default_factory=set)

    def is_finished(self, asked: Asked) -> bool:
        """Whether handling the command again would tell nobody anything new.

        Without doubt only: what is answered but has lost its manifest, or was answered with a failure that may have
        passed, is handled again. A command of a deleted image is finished, since nothing may write for it any more.
        """
        told = (asked.image_id, asked.version) in self.answered
        buried = asked.image_id in self.buried
        if asked.result is None:
            return told and buried and asked.image_id not in self.occupied
        return buried or (told and asked.result in self.manifests)


async def unfinished(settings: Settings, store: S3Store, asked: Sequence[Asked], output: Output) -> list[Asked]:
    """The commands that are not finished, in their order. About 1.6 kB of memory for each. Raises Unavailable."""
    snapshot = await _take_snapshot(settings, store, asked, output)
    return [each for each in asked if not snapshot.is_finished(each)]


async def _take_snapshot(settings: Settings, store: S3Store, asked: Collection[Asked], output: Output) -> Snapshot:
    """List what the bucket has of these commands' images, and read the answers since the first. Raises Unavailable."""
    snapshot = Snapshot()
    if not asked:
        return snapshot
    names = sorted({str(each.image_id) for each in asked})
    with output.progress("List the bucket", None) as advance:

        async def look(names: Sequence[str]) -> None:
            await _note_objects(store, names, snapshot, advance)

        size = -(-len(names) // WALKS)
        await for_each([names[first : first + size] for first in range(0, len(names), size)], look, WALKS)
    since = datetime.fromtimestamp(min(each.time for each in asked) / 1000, UTC) - CLOCKS_APART
    answers = {answer_key(each.image_id, each.version) for each in asked}

    def note(records: Sequence[ConsumedRecord]) -> None:
        for record in records:
            if record.key in answers and record.value is not None:
                _note_answer(snapshot, record.value)

    await read_topic(settings, Topic.EVENTS, note, output, start=since)
    return snapshot


async def _note_objects(store: S3Store, names: Sequence[str], snapshot: Snapshot, advance: Advance) -> None:
    async for info in pick(store, TOMBSTONES_PREFIX, names):
        snapshot.buried.add(UUID(info.key.removeprefix(TOMBSTONES_PREFIX)))
    image = ""
    async for info in pick(store, IMAGES_PREFIX, names):
        name = info.key.removeprefix(IMAGES_PREFIX).partition("/")[0]
        if name != image:
            image = name
            snapshot.occupied.add(UUID(name))
            advance()
        if is_manifest(info.key):
            snapshot.manifests.add(info.key)


def _note_answer(snapshot: Snapshot, value: bytes) -> None:
    with suppress(PoisonRecord):
        event = decode_event(value)
        snapshot.answered.add((event.image_id, event.version))
