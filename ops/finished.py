"""Which commands are finished: answered in the log, with their result in the bucket. Learnt in bulk, not one by one."""

from dataclasses import dataclass, field
from uuid import UUID

from ops.bucket import BucketImage, tombstones, walk_images
from ops.output import Output
from ops.topic_reader import TopicReader, span
from shared.errors import PoisonRecord
from shared.events import Deleted, RenderCommand, decode_event, render_name
from shared.keys import manifest_key
from shared.settings import Settings, Topic
from shared.storage import S3Store

ImageCommand = RenderCommand | Deleted


@dataclass
class Snapshot:
    """What the log and the bucket said when it was taken; about 0.2 kB for each answer and each manifest."""

    answered: dict[int, set[UUID]] = field(default_factory=dict)
    """Images by answered version: commands of two partitions may have one version."""
    manifests: dict[UUID, set[str]] = field(default_factory=dict)
    occupied: set[UUID] = field(default_factory=set)
    """Images that have any object."""
    buried: set[UUID] = field(default_factory=set)

    def is_finished(self, command: ImageCommand, version: int) -> bool:
        """Whether handling the command again would tell nobody anything new.

        Without doubt only: what is answered but has lost its manifest, or was answered with a failure that may have
        passed, is handled again. A command of a deleted image is finished, since nothing may write for it any more.
        """
        told = command.image_id in self.answered.get(version, ())
        buried = command.image_id in self.buried
        if isinstance(command, Deleted):
            return told and buried and command.image_id not in self.occupied
        if buried:
            return True
        found = self.manifests.get(command.image_id, set())
        own = manifest_key(command.image_id, command.revision, render_name(command, version))
        return told and own in found


async def take_snapshot(settings: Settings, store: S3Store, output: Output) -> Snapshot:
    """Read the events and list the bucket: a few reads for a thousand commands. Raises Unavailable."""
    snapshot = Snapshot(buried=await tombstones(store))
    with output.progress("List the bucket", None) as advance:
        async for image in walk_images(store):
            _note(snapshot, image)
            advance()
    async with TopicReader(settings, settings.topic(Topic.EVENTS)) as reader:
        start, end = await reader.beginnings(), await reader.ends()
        with output.progress(f"Read {reader.topic}", span(start, end)) as advance:
            async for batch in reader.read(start, end):
                for record in batch:
                    _note_answer(snapshot, record.value)
                advance(len(batch))
    return snapshot


def _note(snapshot: Snapshot, image: BucketImage) -> None:
    snapshot.occupied.add(image.image_id)
    keys = {info.key for info in image.manifests()}
    if keys:
        snapshot.manifests[image.image_id] = keys


def _note_answer(snapshot: Snapshot, value: bytes | None) -> None:
    if value is None:
        return
    try:
        event = decode_event(value)
    except PoisonRecord:
        return
    snapshot.answered.setdefault(event.version, set()).add(event.image_id)
