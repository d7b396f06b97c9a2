"""`imagepipe reindex` from the log or from manifests: the result equals the live index and replaces it in use."""

import asyncio
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from uuid import UUID

import pytest

from shared.cassandra.index import CassandraIndex
from shared.concurrency import for_each
from shared.contract.keys import Owner, new_id
from shared.read_model.documents import document, status
from shared.read_model.tables import IMAGE_TABLES, IMAGES, Insert, Outcome, Update, existence_columns, image_key
from shared.settings import Settings
from tests.support.isolation import isolated
from tests.support.processes.imagepipe import SWITCHED_AT_ONCE, imagepipe, imagepipe_json
from tests.support.synthetic import Deployment
from tests.support.waiting import NotInTimeError, wait_for_async

OWNER = Owner(type="reindex", id="1")


@pytest.fixture
def place(engines: Settings) -> Iterator[Settings]:
    # With the time-out of a deployment: an index closes the keyspace that it has left after two of them.
    with isolated(engines, topics=True, keyspace=True, bucket=True, topic_partitions=2) as settings:
        yield settings


async def _histories(world: Deployment) -> None:
    await world.many(20, owners=3)
    await world.replaced_and_deleted(OWNER)
    await world.upload(OWNER)


async def test_rebuilt_index_equals_the_live_one_and_is_switched_to_in_use(world: Deployment) -> None:
    await _histories(world)
    settings, fresh = world.settings, f"{world.settings.cassandra_keyspace}_b"
    assert (await asyncio.to_thread(imagepipe_json, settings, "reindex", "--into", fresh, "--dry-run"))["done"] is False

    claim = [f"claim-{new_id()}", "print"]
    await world.index.execute("INSERT INTO idempotency_keys (scope, fingerprint) VALUES (?, ?)", claim)
    switching = asyncio.create_task(
        asyncio.to_thread(imagepipe_json, settings, "reindex", "--into", fresh, "--compare", "--switch", "--yes")
    )
    readable = []
    while not switching.done():
        # Uploads continue, and each is soon visible to its uploader, before, during and after the switch.
        image = (await world.ready(OWNER)).command
        readable.append(await _is_ready_soon(world, image.image_id))
        await asyncio.sleep(0.2)
    done = await switching
    assert done["differences"] == []
    assert done["live"] == fresh == world.index.keyspace
    assert readable
    assert all(readable)
    rows = await world.index.execute("SELECT fingerprint FROM idempotency_keys WHERE scope = ?", claim[:1])
    assert [row.fingerprint for row in rows] == ["print"]
    verified = await asyncio.to_thread(imagepipe_json, settings, "verify", "--pause", "0", code=1)
    # The one upload that the histories leave without an answer.
    assert [each["kind"] for each in verified["differences"]] == ["unanswered"]
    await asyncio.to_thread(imagepipe, settings, "reindex", "--into", fresh, "--yes", code=1)  # it is the live one


async def test_no_list_misses_an_acknowledged_image_during_and_after_a_switch(world: Deployment) -> None:
    """Two gateways, which follow the switch at different times; each reads what the other one has acknowledged."""
    await world.many(20, owners=3)
    settings, fresh = world.settings, f"{world.settings.cassandra_keyspace}_b"
    claims = {f"claim-{number}-{new_id()}" for number in range(500)}
    insert = "INSERT INTO idempotency_keys (scope, fingerprint) VALUES (?, 'print')"
    await for_each(claims, lambda scope: world.index.execute(insert, [scope]), 32)
    other = replace(world, index=await CassandraIndex.open(settings))
    acknowledged: set[UUID] = set()
    missed: list[set[UUID]] = []
    reads = 0
    switching = asyncio.create_task(
        asyncio.to_thread(imagepipe_json, settings, "reindex", "--into", fresh, "--switch", "--yes")
    )

    async def upload(gateway: Deployment) -> None:
        while not switching.done():
            acknowledged.add((await gateway.upload(OWNER)).command.image_id)
            await asyncio.sleep(0.1)

    async def read(gateway: Deployment) -> None:
        nonlocal reads
        while not switching.done() or gateway.index.keyspace != fresh:
            before = set(acknowledged)
            listed = {row.image_id for row in await gateway.index.of_owner(OWNER, limit=5000)}
            missed.append(before - listed)
            reads += 1
            await asyncio.sleep(0.02)

    try:
        await asyncio.gather(*(work(gateway) for gateway in (world, other) for work in (upload, read)))
        assert (await switching)["live"] == fresh == world.index.keyspace == other.index.keyspace
        assert len(acknowledged) > 20
        assert reads > 20
        assert [each for each in missed if each] == []
        copied = await world.index.execute("SELECT scope FROM idempotency_keys", [])
        assert {row.scope for row in copied} == claims
        record = f"SELECT value FROM {settings.cassandra_keyspace}.deployment WHERE name = 'switching'"
        assert await world.index.execute(record, []) == []
    finally:
        await other.index.close()


async def _is_ready_soon(world: Deployment, image_id: UUID) -> bool:
    """Whether the image can be read within seconds. A row written just before the switch arrives through the log."""

    async def ready() -> bool:
        row = await world.index.image(image_id)
        return row is not None and status(row) == "ready"

    with suppress(NotInTimeError):
        return await wait_for_async(ready, 5, "the image is ready")
    return False


async def test_rows_of_the_version_before_are_served_deleted_and_rebuilt_once(world: Deployment) -> None:
    """It inserted the existence columns with every record, at the version of the record."""
    kept, deleted = await world.ready(OWNER), await world.ready(OWNER)
    for logged in (kept, deleted):
        image_id = logged.command.image_id
        columns = existence_columns(image_id, OWNER, logged.image_version)
        keys = {table: image_key(table, image_id, OWNER, world.settings.day_shards) for table in IMAGE_TABLES}
        await world.index.apply([Insert(table, key | columns, logged.answer_version) for table, key in keys.items()])
    await world.delete(deleted)
    assert [row.image_id for row in await world.index.of_owner(OWNER)] == [kept.command.image_id]
    settings, fresh = world.settings, f"{world.settings.cassandra_keyspace}_d"
    await asyncio.to_thread(imagepipe_json, settings, "verify", "--pause", "0", code=1)
    rebuilding = ["reindex", "--into", fresh, "--switch", "--yes"]
    done = await asyncio.to_thread(imagepipe_json, settings, *rebuilding, constants=SWITCHED_AT_ONCE)
    assert done["live"] == fresh
    await asyncio.to_thread(imagepipe, settings, "verify", "--pause", "0")


async def test_a_damaged_row_is_named_and_needs_consent_to_be_replaced(world: Deployment) -> None:
    image = (await world.ready(OWNER)).command
    damage = {"outcome": Outcome(image.revision, "failed", "by_hand", "")}
    await world.index.apply([Update(IMAGES, {"image_id": image.image_id}, damage, 1 << 60)])
    settings, fresh = world.settings, f"{world.settings.cassandra_keyspace}_b"
    arguments = ["reindex", "--into", fresh, "--compare", "--switch", "--yes"]
    done = await asyncio.to_thread(imagepipe_json, settings, *arguments, code=1)
    assert done["differences"] == [{"kind": "different", "table": IMAGES, "image_id": str(image.image_id)}]
    assert done["live"] == settings.cassandra_keyspace
    accepting = [*arguments, "--accept-differences"]
    done = await asyncio.to_thread(imagepipe_json, settings, *accepting, constants=SWITCHED_AT_ONCE)
    assert done["live"] == fresh
    await asyncio.to_thread(imagepipe, settings, "verify", "--pause", "0")


async def test_manifests_alone_restore_the_served_images(world: Deployment) -> None:
    await _histories(world)
    settings, fresh = world.settings, f"{world.settings.cassandra_keyspace}_c"
    done = await asyncio.to_thread(imagepipe_json, settings, "reindex", "--from-bucket", "--into", fresh, "--yes")
    assert done["images"] == 21
    assert done["originals_without_manifest"] == 1
    rebuilt = await CassandraIndex.open(settings, fresh)
    try:
        for number in range(3):
            owner = Owner(type="user", id=str(number))
            before, after = await world.index.of_owner(owner), await rebuilt.of_owner(owner)
            assert [document(row, "") for row in after] == [document(row, "") for row in before]
        served = {row.image_id: row.current for row in await world.index.of_owner(OWNER) if row.current}
        assert {row.image_id: row.current for row in await rebuilt.of_owner(OWNER)} == served
    finally:
        await rebuilt.close()
