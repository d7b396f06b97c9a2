"""`imagepipe gc` on real engines: it deletes superseded objects, reports unnamed ones, and keeps all others."""

import asyncio
from collections.abc import Iterator
from datetime import timedelta

import pytest

from ops.bucket.sweeper import Sweeper
from ops.checks.garbage import Collector
from ops.terminal.output import Output
from shared.contract.keys import Owner, image_prefix, new_id, original_key, revision_prefix
from shared.s3.store import S3Store
from shared.settings import Settings
from tests.support.isolation import isolated_deployment
from tests.support.processes.imagepipe import imagepipe, imagepipe_json
from tests.support.synthetic import Deployment

OWNER = Owner(type="gc", id="1")


@pytest.fixture(scope="module")
def place(engines: Settings) -> Iterator[Settings]:
    changes = {"topic_partitions": 2, "sweep_delay": timedelta(0)}
    with isolated_deployment(engines, **changes) as settings:
        yield settings


async def _keys(store: S3Store, prefix: str) -> set[str]:
    return {info.key for info in await store.list(prefix)}


async def test_sweep_deletes_superseded_objects_only(world: Deployment) -> None:
    image = await world.ready(OWNER)
    never_rendered = await world.replace(image)
    await world.answer(await world.replace(image))
    await world.answer(never_rendered)
    under_way = await world.replace(image)
    alone = await world.ready(OWNER)
    before = await _keys(world.store, "images/")
    old = await _keys(world.store, revision_prefix(image.command.image_id, image.command.revision))
    doomed = {key for key in old if not key.endswith("/manifest.json")}

    reported = await asyncio.to_thread(imagepipe_json, world.settings, "gc", "--superseded")
    assert set(reported["superseded"]["keys"]) == doomed
    assert await _keys(world.store, "images/") == before

    swept = await Sweeper(world.settings, world.store, Output(True)).run(apply=True)
    assert set(swept.keys) == doomed
    assert await _keys(world.store, "images/") == before - doomed
    assert {under_way.command.original.path, never_rendered.command.original.path} <= before - doomed
    assert len(await _keys(world.store, image_prefix(alone.command.image_id))) == 7
    assert (await Sweeper(world.settings, world.store, Output(True)).run(apply=True)).objects == 0


async def test_gc_reports_objects_that_no_row_or_manifest_names(world: Deployment) -> None:
    unknown, revision = new_id(), new_id()
    orphan = original_key(unknown, revision, "image/png")
    await world.store.put(orphan, b"never acknowledged", "image/png")
    waiting = (await world.upload(OWNER)).command
    without_objects = (await world.upload(OWNER)).command
    await world.store.delete([without_objects.original.path])

    collector = Collector(world.settings, world.store, Output(True), timedelta(0))
    garbage = await collector.run()
    assert set(garbage.objects) == {orphan}
    assert garbage.rows_without_objects == [without_objects.image_id]
    assert waiting.original.path in await _keys(world.store, "images/")

    # With every option the command leaves objects as young as these alone.
    await asyncio.to_thread(imagepipe, world.settings, "gc", "--older-than", "5m", code=1)
    document = await asyncio.to_thread(imagepipe_json, world.settings, "gc", "--apply", "--yes", "--older-than", "1h")
    assert document["unknown"]["objects"] == {}
    assert orphan in await _keys(world.store, "images/")
