"""`imagepipe erase` leaves nothing of an owner that a replay or a rebuild could restore."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

from aiokafka import AIOKafkaConsumer, TopicPartition

from ops.index.rows import Rows
from ops.log.reader import Offsets, TopicReader, read_topic
from processor.consuming.faust_app import GROUP
from shared.cassandra.index import CassandraIndex
from shared.concurrency import for_each
from shared.contract.keys import Owner, image_prefix, incoming_prefix
from shared.contract.logged_command import LoggedRenderCommand, read_command
from shared.kafka.producer import client_options
from shared.read_model.tables import IMAGE_TABLES, command_writes
from shared.settings import Settings, Topic
from tests.support.api import Api
from tests.support.engines.stack import Stack
from tests.support.processes.imagepipe import SWITCHED_AT_ONCE, imagepipe, imagepipe_json
from tests.support.records import uploaded
from tests.support.synthetic import Deployment
from tests.support.waiting import wait_for_async

OWNER, OTHER = Owner(type="erase", id="1"), Owner(type="erase", id="2")


async def _process(world: Deployment, reader: TopicReader, start: Offsets, group: AIOKafkaConsumer | None) -> None:
    """A processor and an indexer: they handle each record, and commit it if there is a group."""
    async for batch in reader.read(start):
        for record in batch:
            await world.answer(read_command(record, 1))
            if group is not None:
                await group.commit({TopicPartition(reader.topic, record.partition): record.offset + 1})


@asynccontextmanager
async def _processor(world: Deployment, start: Offsets | None = None, commits: bool = True) -> AsyncIterator[None]:
    """One that runs during the block, by default from the end of the topics."""
    settings = world.settings
    group = AIOKafkaConsumer(
        **client_options(settings), group_id=settings.topic_prefix + GROUP, enable_auto_commit=False
    )
    await group.start()
    try:
        async with TopicReader(settings, Topic.COMMANDS) as reader:
            group.assign([TopicPartition(reader.topic, number) for number in range(settings.topic_partitions)])
            work = _process(world, reader, start or await reader.ends(), group if commits else None)
            running = asyncio.create_task(work)
            try:
                yield
            finally:
                running.cancel()
                with suppress(asyncio.CancelledError):
                    await running
    finally:
        await group.stop()


async def _ends(settings: Settings) -> Offsets:
    async with TopicReader(settings, Topic.COMMANDS) as reader:
        return await reader.ends()


async def test_erased_owner_stays_erased_after_replay_and_rebuild(world: Deployment) -> None:
    images = [(await world.ready(OWNER)).command for _ in range(3)]
    kept = (await world.ready(OTHER)).command
    async with _processor(world):
        done = await asyncio.to_thread(imagepipe_json, world.settings, "erase", "--owner", OWNER.key, "--yes")
    assert done["complete"]
    assert set(done["images"]) == {str(each.image_id) for each in images}
    assert done["removed"]["objects"] == 21  # of each: original, four variants, manifest, marker
    assert done["removed"]["event_keys_nulled"] == 6  # one `ready` and one `removed` each
    assert set(done["gone_by"]) >= {world.settings.topic(topic) for topic in Topic}

    replayed = await asyncio.to_thread(
        imagepipe_json, world.settings, "replay", "--from", "beginning", "--again", "--yes"
    )
    assert replayed["answers"] == {"image.ready": 1, "image.removed": 6}
    fresh = f"{world.settings.cassandra_keyspace}_b"
    rebuilt = await asyncio.to_thread(imagepipe_json, world.settings, "reindex", "--into", fresh, "--compare", "--yes")
    assert (rebuilt["images"], rebuilt["differences"]) == (1, [])
    index = await CassandraIndex.open(world.settings, fresh)
    try:
        for image in images:
            assert await world.index.image(image.image_id) is None
            assert await index.image(image.image_id) is None
            assert await world.store.list(image_prefix(image.image_id)) == []
        assert await index.image(kept.image_id) is not None
    finally:
        await index.close()


async def test_erase_is_certified_after_every_delete_is_answered(world: Deployment) -> None:
    """Images that were deleted before have a tombstone; an answer that comes later has the owner's key."""
    await world.delete(await world.ready(OWNER))
    before, arguments = await _ends(world.settings), ["erase", "--owner", OWNER.key, "--yes"]
    await asyncio.to_thread(imagepipe, world.settings, *arguments, "--wait", "1s", code=1)
    async with _processor(world, before, commits=False):  # would answer again after a restart
        await asyncio.to_thread(imagepipe, world.settings, *arguments, "--wait", "5s", code=1)
    async with _processor(world, before):
        done = await asyncio.to_thread(imagepipe_json, world.settings, *arguments)
    assert done["complete"]
    assert done["removed"]["event_keys_nulled"] == 5  # `ready`, and four deletes
    values: dict[bytes | None, bytes | None] = {}
    await read_topic(
        world.settings, Topic.EVENTS, lambda records: values.update({each.key: each.value for each in records})
    )
    assert set(values.values()) == {None}


async def test_erase_removes_rows_of_former_keyspaces_and_incoming_objects(world: Deployment) -> None:
    settings, old = world.settings, world.settings.cassandra_keyspace
    image = (await world.ready(OWNER)).command
    kept = (await world.ready(OTHER)).command
    forgotten = uploaded(owner=OWNER)  # the log does not contain it
    await world.index.apply(command_writes(LoggedRenderCommand(forgotten, 2), settings.day_shards))
    rebuilding = ["reindex", "--into", f"{old}_b", "--switch", "--yes"]
    await asyncio.to_thread(imagepipe, settings, *rebuilding, constants=SWITCHED_AT_ONCE)
    await wait_for_async(lambda: world.index.keyspace == f"{old}_b", 30, "this process follows the switch")
    keys = {owner: f"{incoming_prefix(owner)}cat.png" for owner in (OWNER, OTHER)}
    for key in keys.values():
        await world.store.put(key, b"put with a temporary key", "image/png")

    async with _processor(world):
        done = await asyncio.to_thread(imagepipe_json, settings, "erase", "--owner", OWNER.key, "--yes")
    assert done["complete"]
    for keyspace in (old, f"{old}_b"):
        rows = await Rows.open(settings, keyspace)
        try:
            for erased in (image, forgotten):
                assert await rows.of_image(erased.image_id, OWNER, settings.day_shards) == []
            assert len(await rows.of_image(kept.image_id, OTHER, settings.day_shards)) == len(IMAGE_TABLES)
        finally:
            await rows.close()
    assert [info.key for info in await world.store.list("incoming/")] == [keys[OTHER]]
    assert done["removed"]["incoming_objects"] == 1
    assert done["keyspaces"]["erased"] == [old, f"{old}_b"]
    assert not set(done["keyspaces"]["erased"]) & set(done["keyspaces"]["not_touched"])


async def test_owner_with_thousands_of_incoming_objects_is_erased(world: Deployment) -> None:
    count = 2_500
    keys = [f"{incoming_prefix(OWNER)}{number:05}.png" for number in range(count)]
    kept = f"{incoming_prefix(OTHER)}cat.png"
    await for_each([*keys, kept], lambda key: world.store.put(key, b"x", "image/png"), 32)
    done = await asyncio.to_thread(imagepipe_json, world.settings, "erase", "--owner", OWNER.key, "--yes")
    assert done["complete"]
    assert done["removed"]["incoming_objects"] == count
    assert [info.key for info in await world.store.list("incoming/")] == [kept]


def test_an_owner_is_erased_beside_running_services(api: Api, stack: Stack, owner: dict[str, str]) -> None:
    images = [api.upload(user_id=owner["user_id"])["image_id"] for _ in range(3)]
    done = imagepipe_json(stack.settings, "erase", "--owner", f"user:{owner['user_id']}", "--yes")
    assert done["complete"]
    assert done["images"] == sorted(images)
    assert [api.document(image_id) for image_id in images] == [None] * len(images)
