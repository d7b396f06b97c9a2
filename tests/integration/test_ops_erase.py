"""`imagepipe erase` leaves nothing of an owner that a replay or a rebuild could bring back."""

import asyncio
from collections.abc import AsyncIterator, Iterator

import pytest

from bench.synthetic import Deployment, deployment
from ops.topic_reader import TopicReader, headers_of
from shared.cassandra import CassandraIndex
from shared.cassandra_session import connect
from shared.events import decode_command, record_version
from shared.keys import Owner, image_prefix
from shared.settings import Settings, Topic
from tests.ops_command import imagepipe_json
from tests.stack import isolated_deployment

OWNER, OTHER = Owner(type="erase", id="1"), Owner(type="erase", id="2")


@pytest.fixture
def place(engines: Settings) -> Iterator[Settings]:
    with isolated_deployment(engines, topic_partitions=2) as settings:
        yield settings
        session = connect(settings)
        session.execute(f"DROP KEYSPACE IF EXISTS {settings.cassandra_keyspace}_b", timeout=30)
        session.cluster.shutdown()


@pytest.fixture
async def world(place: Settings) -> AsyncIterator[Deployment]:
    async with deployment(place) as made:
        yield made


async def _process(world: Deployment, reader: TopicReader) -> None:
    """A processor and an indexer: answer whatever comes."""
    async for batch in reader.read(await reader.ends()):
        for record in batch:
            command = decode_command(record.value)
            await world.answer(command, record_version(command, 1, record.offset, headers_of(record)))


async def test_an_erased_owner_does_not_come_back(world: Deployment) -> None:
    images = [(await world.ready(OWNER))[0] for _ in range(3)]
    kept, _ = await world.ready(OTHER)
    async with TopicReader(world.settings, world.settings.topic(Topic.COMMANDS)) as reader:
        processor = asyncio.create_task(_process(world, reader))
        done = await asyncio.to_thread(imagepipe_json, world.settings, "erase", "--owner", OWNER.key, "--yes")
        processor.cancel()
    assert done["complete"]
    assert set(done["images"]) == {str(each.image_id) for each in images}
    assert done["removed"]["objects"] == 18
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
