"""An image with very many revisions is handled in at most two seconds by a real S3 server (invariant 3).

`REVISIONS=10000 pytest tests/integration/test_many_revisions.py -s` prints the times for an image of that size.
"""

import hashlib
import os
from collections.abc import AsyncIterator, Iterator, Sequence
from datetime import timedelta
from uuid import UUID

import pytest

from ops.bucket.listing import BucketImage, walk_images
from ops.bucket.sweeper import Sweeper
from ops.terminal.output import Output
from processor.handler import Handler
from processor.lookup import complete_markers
from processor.rendering.render import RenderedVariant, Rendering
from processor.results import mark_ready, write_manifest
from shared.concurrency import for_each
from shared.contract.events import Deleted, Event, Manifest, Ready, Removed, RenderCommand, Superseded
from shared.contract.keys import Owner, command_version, image_prefix, new_id
from shared.contract.ladder import Ladder
from shared.contract.logged_command import LoggedRenderCommand, versioned
from shared.s3.store import S3Store
from shared.settings import Settings
from tests.support import records
from tests.support.isolation import isolated
from tests.support.memory.gateway import memory_settings
from tests.support.memory.ports import MemoryEventLog
from tests.support.waiting import Stopwatch

REVISIONS = int(os.environ.get("REVISIONS", "300"))
LIMIT_SECONDS = 2.0
ORIGINAL = b"as uploaded"
SHA256 = hashlib.sha256(ORIGINAL).hexdigest()


@pytest.fixture(scope="module")
def bucket(engines: Settings) -> Iterator[Settings]:
    with isolated(engines, bucket=True) as settings:
        yield settings


@pytest.fixture
async def store(bucket: Settings) -> AsyncIterator[S3Store]:
    found = S3Store.from_settings(bucket)
    yield found
    await found.close()


async def render(owner: Owner, data: bytes, ladder: Ladder) -> Rendering:
    variants = tuple(
        RenderedVariant(name, name.encode(), 4, 3, hashlib.sha256(name.encode()).hexdigest()) for name in ladder.names
    )
    return Rendering(4, 3, variants, thumbhash="", dominant_color="#000000", notes=())


class Camera:
    """An image that was replaced REVISIONS times. Its superseded originals and variants are swept."""

    def __init__(self, store: S3Store) -> None:
        self.store = store
        self.image_id = new_id()
        self.log = [self.replaced(number) for number in range(1, REVISIONS + 1)]
        self._handler = Handler(store, render, MemoryEventLog(), records.BASE)

    def replaced(self, number: int) -> LoggedRenderCommand:
        return LoggedRenderCommand(records.replaced(self.image_id, 0, new_id()), command_version(1, number))

    async def fill(self, *, marked: bool) -> None:
        async def put(logged: LoggedRenderCommand) -> None:
            command = logged.command
            current = records.current(self.image_id, command.revision, logged.revision_version, logged.render)
            manifest = Manifest(render=logged.render, event=logged.ready(current))
            await write_manifest(self.store, manifest)
            if marked:
                await mark_ready(self.store, manifest)

        await for_each(self.log, put, 16)

    async def handle(self, command: RenderCommand | Deleted, number: int) -> Event:
        answer = await self._handler.handle(versioned(command, command_version(1, number)))
        assert answer is not None
        return answer

    async def handle_in_time(self, command: RenderCommand, number: int, what: str) -> Event:
        watch = Stopwatch()
        answer = await self.handle(command, number)
        print(f"{what}: {watch.seconds():.3f} s")
        assert watch.seconds() < LIMIT_SECONDS
        return answer

    async def next_replacement(self, number: int) -> RenderCommand:
        command = self.replaced(number).command
        command = command.model_copy(update={"original": command.original.model_copy(update={"sha256": SHA256})})
        await self.store.put(command.original.path, ORIGINAL, "image/jpeg")
        return command


@pytest.mark.parametrize("marked", [True, False], ids=["with markers", "stored before markers"])
async def test_commands_of_an_image_with_many_revisions_are_handled_in_time(store: S3Store, marked: bool) -> None:
    camera = Camera(store)
    await camera.fill(marked=marked)
    watch = Stopwatch()
    await complete_markers(store, camera.image_id)
    print(f"\nthe markers of {REVISIONS:,} revisions completed, once: {watch.seconds():.1f} s")

    replaced = await camera.next_replacement(REVISIONS + 1)
    assert isinstance(await camera.handle_in_time(replaced, REVISIONS + 1, "replacement"), Ready)
    assert isinstance(await camera.handle_in_time(replaced, REVISIONS + 1, "the same, redelivered"), Ready)
    oldest = await camera.handle_in_time(camera.log[0].command, 1, "the oldest replacement, replayed")
    assert isinstance(oldest, Superseded)
    assert oldest.superseded_by.revision == replaced.revision
    again = records.reprocess(camera.image_id, 0, camera.log[1].command.revision, camera.log[1].version)
    assert isinstance(await camera.handle_in_time(again, REVISIONS + 2, "reprocess of an old one"), Superseded)

    newest = await camera.next_replacement(REVISIONS + 3)
    await camera.handle(newest, REVISIONS + 3)
    await sweep(camera, replaced.revision, newest.revision)

    watch = Stopwatch()
    removed = await camera.handle(Deleted(image_id=camera.image_id, owner=newest.owner), REVISIONS + 4)
    print(f"deletion: {watch.seconds():.1f} s")
    assert isinstance(removed, Removed)
    assert await store.list(image_prefix(camera.image_id)) == []


async def sweep(camera: Camera, superseded: UUID, newest: UUID) -> None:
    settings = memory_settings(sweep_delay=timedelta())
    watch = Stopwatch()
    swept = await Sweeper(settings, camera.store, Output(as_json=True)).run(apply=True)
    print(f"sweep: {watch.seconds():.1f} s")
    assert all(f"/{superseded}/" in key for key in swept.keys)
    [image] = [image async for image in walk_images(camera.store) if image.image_id == camera.image_id]
    assert left_of(image, superseded) == []
    assert len(left_of(image, newest)) > 1
    assert len(image.manifests()) == REVISIONS + 2, "manifests stay"


def left_of(image: BucketImage, revision: UUID) -> Sequence[str]:
    """Keys of the originals and variants of a revision."""
    folder = image.revisions[revision]
    return [info.key for info in folder.originals] + [
        info.key for render in folder.renders.values() for info in render.variants
    ]
