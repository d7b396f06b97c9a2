"""`imagepipe replay` and `reprocess` on real engines, beside a log that goes on."""

import asyncio
from collections.abc import AsyncIterator, Iterator

import pytest

from bench.synthetic import Deployment, deployment
from ops.topic_reader import TopicReader
from shared.events import Reprocess, decode_command
from shared.keys import Owner, image_prefix, tombstone_key
from shared.settings import Settings, Topic
from shared.tables import event_writes
from tests.ops_command import imagepipe_json
from tests.stack import isolated_deployment

OWNER = Owner(type="replay", id="1")


@pytest.fixture
def place(engines: Settings) -> Iterator[Settings]:
    with isolated_deployment(engines, topic_partitions=2) as settings:
        yield settings


@pytest.fixture
async def world(place: Settings) -> AsyncIterator[Deployment]:
    async with deployment(place) as made:
        yield made


async def _objects(world: Deployment) -> dict[str, tuple[str, object]]:
    return {info.key: (info.etag, info.modified) for info in await world.store.list("images/")}


async def test_finished_commands_are_passed_by_and_nothing_is_touched(world: Deployment) -> None:
    await world.many(10, owners=2)
    gone, _ = await world.ready(OWNER)
    await world.delete(gone)
    before = await _objects(world)
    arguments = ["replay", "--from", "beginning", "--yes"]
    done = await asyncio.to_thread(imagepipe_json, world.settings, *arguments)
    assert (done["commands"], done["finished"], done["answers"]) == (12, 12, {})
    done = await asyncio.to_thread(imagepipe_json, world.settings, *arguments, "--again")
    assert done["answers"] == {"image.ready": 10, "image.removed": 2}
    assert (done["rendered"], done["failures"]) == (0, {})
    assert await _objects(world) == before


async def test_what_is_not_finished_is_handled_and_deleted_images_stay_deleted(world: Deployment) -> None:
    waiting, _ = await world.upload(OWNER)  # no picture in truth: the answer is a failure
    other, _ = await world.upload(Owner(type="replay", id="2"))
    gone, _ = await world.upload(OWNER)
    await world.store.put(tombstone_key(gone.image_id), b'{"version": "99"}', "application/json")
    dry = ["replay", "--from", "beginning", "--owner", OWNER.key]
    assert (await asyncio.to_thread(imagepipe_json, world.settings, *dry, "--dry-run"))["answers"] == {}
    done = await asyncio.to_thread(imagepipe_json, world.settings, *dry, "--yes")
    assert (done["commands"], done["finished"], done["answers"]) == (2, 1, {"image.failed": 1})
    keys = {info.key for info in await world.store.list(image_prefix(waiting.image_id))}
    assert any(key.endswith("manifest.json") for key in keys)
    assert len(await world.store.list(image_prefix(other.image_id))) == 1
    async with TopicReader(world.settings, world.settings.topic(Topic.COMMANDS)) as reader:
        assert sum((await reader.ends()).values()) == 3  # no command was published


async def test_a_reprocess_is_published_for_each_image_of_another_ladder_and_paced(world: Deployment) -> None:
    await world.many(3, owners=1)
    await world.ready(OWNER)
    assert (await asyncio.to_thread(imagepipe_json, world.settings, "reprocess", "--dry-run"))["matched"] == 0
    ladder = world.ladder.model_copy(update={"full_quality": 60})
    changed = world.settings.model_copy(update={"ladder": ladder})
    assert (await asyncio.to_thread(imagepipe_json, changed, "reprocess", "--dry-run"))["matched"] == 4
    # Nobody consumes: with room for as many as are in the log already and one more, one goes out.
    arguments = ["reprocess", "--owner", OWNER.key, "--backlog", "5", "--yes"]
    done = await asyncio.to_thread(imagepipe_json, changed, *arguments)
    assert (done["matched"], done["published"]) == (1, 1)
    published = []
    async with TopicReader(world.settings, world.settings.topic(Topic.COMMANDS)) as reader:
        async for batch in reader.read(await reader.beginnings(), await reader.ends()):
            published += [decode_command(record.value) for record in batch]
    (command,) = [each for each in published if isinstance(each, Reprocess)]
    assert command.ladder == ladder
    # Answered, it is of the current ladder.
    event = await world.handler.handle(command, (1 << 52) + 1000)
    assert event is not None
    await world.index.apply(event_writes(event, world.settings.day_shards))
    assert (await asyncio.to_thread(imagepipe_json, changed, *arguments))["matched"] == 0
