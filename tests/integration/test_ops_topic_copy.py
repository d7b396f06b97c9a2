"""`imagepipe topics copy`: the log continues in topics with more partitions and gives the same index."""

import asyncio
from collections.abc import Iterator

import pytest

from shared.cassandra.session import connect
from shared.contract.events import OwnerCleared
from shared.contract.keys import Owner
from shared.settings import Settings
from tests.support.isolation import isolated, isolated_deployment
from tests.support.processes.imagepipe import imagepipe, imagepipe_json
from tests.support.synthetic import deployment

OWNER, CLEARED = Owner(type="copy", id="1"), Owner(type="copy", id="2")


@pytest.fixture
def moved(engines: Settings) -> Iterator[tuple[Settings, Settings]]:
    """A deployment, and the same with more partitions in the next epoch."""
    with (
        isolated_deployment(engines, topic_partitions=2) as old,
        isolated(engines, topics=True, topic_partitions=5) as place,
    ):
        new = old.model_copy(update={"topic_prefix": place.topic_prefix, "topic_partitions": 5, "epoch": 2})
        yield old, new
        session = connect(old)
        session.execute(f"DROP KEYSPACE IF EXISTS {old.cassandra_keyspace}_b", timeout=30)
        session.cluster.shutdown()


async def test_copied_topics_rebuild_the_same_index(moved: tuple[Settings, Settings]) -> None:
    old, new = moved
    async with deployment(old) as world:
        await world.many(6, owners=3)
        await world.answer(await world.replace(await world.ready(OWNER)))
        await world.delete(await world.ready(OWNER))
        await world.commands.append(OwnerCleared(owner=CLEARED))
        await world.ready(CLEARED)

    arguments = ["topics", "copy", "--from-prefix", old.topic_prefix, "--from-epoch", "1"]
    assert await asyncio.to_thread(imagepipe_json, new, *arguments, "--dry-run") == {"copied": False}
    copied = await asyncio.to_thread(imagepipe_json, new, *arguments, "--yes")
    # 6 uploads; upload and replacement; upload and delete; fence; upload.
    assert copied == {"copied": True, "commands": 12, "events": 11, "skipped": {"records": 0, "places": {}}}
    # A second copy, as from another cluster, changes nothing.
    servers = ["--from-servers", old.kafka_bootstrap_servers]
    assert await asyncio.to_thread(imagepipe_json, new, *arguments, *servers, "--yes") == copied

    # Only the delete is unfinished, because its copy has a new version.
    replayed = await asyncio.to_thread(imagepipe_json, new, "replay", "--from", "beginning", "--yes")
    assert set(replayed["answers"]) == {"image.removed"}
    fresh = f"{old.cassandra_keyspace}_b"
    rebuilt = await asyncio.to_thread(imagepipe_json, new, "reindex", "--into", fresh, "--compare", "--yes")
    assert (rebuilt["images"], rebuilt["differences"]) == (8, [])
    await asyncio.to_thread(imagepipe, new, "verify", "--pause", "0")
