"""Finds the finished commands: they have an answer in the log and their result in the bucket.

Log and bucket are read once for all commands, and not once for each command.
"""

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
"""Parts of the listing that are read concurrently: the store prepares the other parts while one is parsed."""
CLOCKS_APART = timedelta(hours=1)
"""Maximum time by which an answer may seem earlier than its command, because clocks differ. With an answer that seems
even earlier, the command is handled again."""


@dataclass(frozen=True, slots=True)
class Asked:
    """A command of the log, without its content. `place` is partition and offset; `time` in ms since 1970."""

    place: tuple[int, int]
    time: int
    type: str
    image_id: UUID
    version: int
    result: str | None
    """Key of the manifest that a render command writes; None for a deletion."""

    @classmethod
    def by(cls, record: ConsumedRecord, logged: LoggedImageCommand) -> "Asked":
        """Make the summary of a command."""
        command, result = logged.command, None
        if isinstance(logged, LoggedRenderCommand):
            result = manifest_key(command.image_id, logged.command.revision, logged.render)
        place = (record.partition, record.offset)
        return cls(place, record.timestamp, command.type, command.image_id, logged.version, result)


@dataclass
class Snapshot:
    """The answers in the log and the objects in the bucket of some images, at one time."""

    answered: set[tuple[UUID, int]] = field(default_factory=set)
    """Image and version of each answered command. Commands in different partitions may have the same version."""
    manifests: set[str] = field(default_factory=set)
    occupied: set[UUID] = field(default_factory=set)
    """Images that have any object except a tombstone."""
    tombstones: set[UUID] = field(default_factory=set)
    """Images that have a tombstone."""

    def is_finished(self, asked: Asked) -> bool:
        """Whether handling the command again would certainly change nothing.

        A command with an answer but without its manifest is not finished: the manifest is lost, or the answer was a
        failure that may be over. A render command of a deleted image is finished, because a deletion is final.
        """
        answered = (asked.image_id, asked.version) in self.answered
        deleted = asked.image_id in self.tombstones
        if asked.result is None:
            return answered and deleted and asked.image_id not in self.occupied
        return deleted or (answered and asked.result in self.manifests)


async def unfinished(settings: Settings, store: S3Store, asked: Sequence[Asked], output: Output) -> list[Asked]:
    """The commands that are not finished, in their order. About 1.6 kB of memory for each. Raises Unavailable."""
    snapshot = await _take_snapshot(settings, store, asked, output)
    return [each for each in asked if not snapshot.is_finished(each)]


async def _take_snapshot(settings: Settings, store: S3Store, asked: Collection[Asked], output: Output) -> Snapshot:
    """List the objects of these commands' images, and read the answers since the first command. Raises Unavailable."""
    snapshot = Snapshot()
    if not asked:
        return snapshot
    names = sorted({str(each.image_id) for each in asked})
    with output.progress("List the bucket", None) as advance:

        async def list_part(names: Sequence[str]) -> None:
            await _note_objects(store, names, snapshot, advance)

        size = -(-len(names) // WALKS)
        await for_each([names[first : first + size] for first in range(0, len(names), size)], list_part, WALKS)
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
        snapshot.tombstones.add(UUID(info.key.removeprefix(TOMBSTONES_PREFIX)))
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
