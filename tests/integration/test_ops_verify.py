"""`imagepipe verify` finds each kind of damage, repairs what it can, and reports nothing without damage."""

import asyncio
import time
from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta

import pytest

from ops.checks.differences import Difference, Kind
from ops.checks.garbage import Collector
from ops.checks.inspection import Inspection
from ops.checks.repair import advice, repair
from ops.index.rows import Rows
from ops.log.dead_letter_queue import DROPPED, DeadLetter, Filter, redrive, settle, unsettled
from ops.terminal.output import Output
from processor.handler import Handler
from processor.results import read_tombstone
from shared.cassandra.session import connect
from shared.consuming.dead_letters import dead_letter_headers
from shared.contract.encoding import decode_manifest, encode
from shared.contract.events import Deleted, Failed, Failure, OwnerCleared, Ready, RenderCommand, Uploaded
from shared.contract.keys import Owner, manifest_key, new_id, shard_of, tombstone_key, variant_key
from shared.contract.logged_command import LoggedDelete, LoggedRenderCommand
from shared.kafka.producer import Producer
from shared.kafka.writers import KafkaDeadLetters
from shared.read_model.tables import BY_DAY, BY_OWNER, IMAGES, Outcome, Update, command_writes
from shared.s3.store import s3_client
from shared.settings import Settings, Topic
from tests.support.isolation import isolated_deployment
from tests.support.memory.ports import MemoryEventLog
from tests.support.processes.imagepipe import imagepipe, imagepipe_json
from tests.support.synthetic import Deployment, render

OWNER = Owner(type="verify", id="1")


@pytest.fixture(scope="module")
def place(engines: Settings) -> Iterator[Settings]:
    with isolated_deployment(engines, topic_partitions=2) as settings:
        yield settings


async def inspect(world: Deployment, with_repair: bool = False) -> list[Difference]:
    rows = await Rows.open(world.settings)
    try:
        inspection = Inspection(
            world.settings, rows, world.store, Output(True), grace=timedelta(0), with_checksums=True
        )
        found = await inspection.settled(await inspection.run(), 0, checks=1)
        if with_repair:
            return await repair(found, inspection, world.index, world.events, world.settings.day_shards)
        return found
    finally:
        await rows.close()


async def test_complete_histories_have_no_difference(world: Deployment) -> None:
    await world.replaced_and_deleted(OWNER)
    unserved = await world.upload(OWNER)
    await world.answer(await world.replace(unserved))
    await world.answer(unserved)
    assert await inspect(world) == []
    document = await asyncio.to_thread(imagepipe_json, world.settings, "verify", "--pause", "0", "--slices", "2")
    skipped = {"records": 0, "places": {}}
    assert document == {"images": 2, "clean": True, "differences": [], "skipped": skipped}


async def of_image(world: Deployment, image: RenderCommand, with_repair: bool = False) -> set[tuple[str, str]]:
    """Kind and place of each difference of one image, without the damage that other tests made."""
    return {
        (each.kind.value, each.where) for each in await inspect(world, with_repair) if each.image_id == image.image_id
    }


async def test_rows_that_missed_a_record_are_found_and_repaired(world: Deployment) -> None:
    upload = await world.upload(OWNER)
    await world.handler.handle(upload)  # the answer never reached the index
    stale = upload.command
    assert await of_image(world, stale) == {("stale", table) for table in (IMAGES, BY_OWNER, BY_DAY)}

    missing = await _command(world)
    await world.handler.handle(LoggedRenderCommand(missing, await world.append_without_row(missing)))
    assert await of_image(world, missing) == {("missing", table) for table in (IMAGES, BY_OWNER, BY_DAY)}

    assert await of_image(world, missing, with_repair=True) == set()
    assert await of_image(world, stale) == set()
    row = await world.index.image(missing.image_id)
    assert row is not None
    assert row.current is not None


@pytest.mark.parametrize("tables", [(IMAGES, BY_OWNER, BY_DAY), (BY_OWNER,), (BY_DAY,)])
async def test_a_row_that_no_record_knows_is_found_and_left_to_a_rebuild(
    world: Deployment, tables: tuple[str, ...]
) -> None:
    unknown = await _command(world)
    writes = command_writes(LoggedRenderCommand(unknown, 5), world.settings.day_shards)
    await world.index.apply([write for write in writes if write.table in tables])
    assert await of_image(world, unknown, with_repair=True) >= {("extra", table) for table in tables}
    found = [each for each in await inspect(world) if each.image_id == unknown.image_id and each.where in tables]
    assert all("reindex" in advice(each) for each in found)


async def test_row_in_an_unread_partition_is_found(world: Deployment) -> None:
    upload = await world.ready(OWNER)
    image, shards = upload.command, world.settings.day_shards
    [by_owner, by_day] = [
        write
        for write in command_writes(upload, shards)
        if isinstance(write, Update) and write.table in (BY_OWNER, BY_DAY)
    ]
    other_shard = (shard_of(image.image_id, shards) + 1) % shards
    await world.index.apply(
        [
            replace(by_owner, key={**by_owner.key, "owner_id": "somebody else"}),
            replace(by_day, key={**by_day.key, "shard": other_shard}),
        ]
    )
    assert await of_image(world, image) == {("extra", BY_OWNER), ("extra", BY_DAY)}


async def test_columns_written_by_hand_are_found(place: Settings, world: Deployment) -> None:
    image = (await world.ready(OWNER)).command
    by_hand = f"UPDATE images USING TIMESTAMP {1 << 60} SET {{}} WHERE image_id = {image.image_id}"
    session = await asyncio.to_thread(connect, place, place.cassandra_keyspace)
    try:
        for change, damaged in (
            ("uploaded_at = '2001-01-01'", 1),
            ("uploaded_at = null, owner_type = 'NOT ONE'", 2),
            ("current_json = '{}'", 3),
        ):
            await asyncio.to_thread(session.execute, by_hand.format(change))
            found = [each for each in await inspect(world) if each.image_id == image.image_id]
            assert [(each.kind.value, each.where) for each in found] == [("wrong", IMAGES)] * damaged
    finally:
        await asyncio.to_thread(session.cluster.shutdown)


async def test_restored_row_of_a_deleted_image_is_found_and_removed(world: Deployment) -> None:
    image = (await world.ready(OWNER)).command
    removal = Deleted(image_id=image.image_id, owner=OWNER)
    await world.handler.handle(LoggedDelete(removal, await world.append_without_row(removal)))
    await world.store.delete([tombstone_key(image.image_id)])
    await world.store.put(image.original.path, b"zombie", "image/png")
    found = await of_image(world, image)
    assert found == {("extra", table) for table in (IMAGES, BY_OWNER, BY_DAY)} | {
        ("extra", image.original.path), ("missing", "tombstones/")
    }  # fmt: skip
    assert await of_image(world, image, with_repair=True) == set()
    assert await world.index.image(image.image_id) is None
    assert (await world.store.head(tombstone_key(image.image_id))).size > 0


async def test_row_with_a_timestamp_from_the_clock_is_found_and_left_to_a_rebuild(world: Deployment) -> None:
    image = (await world.ready(OWNER)).command
    columns = {"outcome": Outcome(image.revision, "failed", "by_hand", "")}
    await world.index.apply([Update(IMAGES, {"image_id": image.image_id}, columns, int(time.time() * 1e6) << 8)])
    assert await of_image(world, image) == {("wrong", IMAGES)}
    assert await of_image(world, image, with_repair=True) == {("wrong", IMAGES)}


async def test_damage_in_the_bucket_is_found(world: Deployment) -> None:
    image = (await world.ready(OWNER)).command
    small = variant_key(image.image_id, image.revision, image.ladder.digest, "small")
    large = variant_key(image.image_id, image.revision, image.ladder.digest, "large")
    medium = variant_key(image.image_id, image.revision, image.ladder.digest, "medium")
    manifest = manifest_key(image.image_id, image.revision, image.ladder.digest)
    strange = f"images/{image.image_id}/notes.txt"
    data = await world.store.get(large)
    await world.store.delete([small])
    await world.store.put(large, bytes(len(data)), "image/webp")
    await world.store.put(medium, b"short", "image/webp")
    await world.store.put(strange, b"?", "text/plain")
    assert await of_image(world, image) == {
        ("missing", small), ("wrong checksum", large), ("wrong checksum", medium), ("extra", strange)
    }  # fmt: skip

    kept = decode_manifest(await world.store.get(manifest))
    assert isinstance(kept.event, Ready)
    changed = kept.event.current.model_copy(update={"dominant_color": "#000000"})
    other = kept.model_copy(update={"event": kept.event.model_copy(update={"current": changed})})
    for damage in (encode(other), b"{}"):
        await world.store.put(manifest, damage, "application/json")
        assert ("wrong", manifest) in await of_image(world, image)
    await world.store.delete([manifest, image.original.path])
    assert {("missing", manifest), ("missing", image.original.path)} <= await of_image(world, image)


async def test_unnamed_objects_are_found_and_deleted_by_gc(world: Deployment) -> None:
    image = (await world.ready(OWNER)).command
    unnamed = variant_key(image.image_id, image.revision, image.ladder.digest, "huge")
    unasked = variant_key(image.image_id, image.revision, "f" * 16, "small")
    second = image.original.path.removesuffix("png") + "webp"
    planted = {unnamed, unasked, second, "images/notes/a.txt", f"images/{str(image.image_id).upper()}/a.txt"}
    for key in planted:
        await world.store.put(key, b"?", "image/webp")
    # Consoles of S3 make such objects for folders. The services' client refuses to write their keys.
    s3_client(world.settings).put_object(Bucket=world.settings.s3_bucket, Key="tombstones/")
    found = {each.where: each for each in await inspect(world)}
    assert planted <= found.keys()
    assert {found[key].kind for key in planted} == {Kind.EXTRA}
    assert all("gc" in advice(found[key]) for key in planted)
    garbage = await Collector(world.settings, world.store, Output(True), timedelta(0)).run()
    assert planted <= garbage.objects.keys()
    assert not {key for key in garbage.objects if str(image.image_id) in key} - planted
    await world.store.delete([*planted, "tombstones/"])
    assert await of_image(world, image) == set()


async def test_advice_for_a_damaged_manifest_repairs_it(world: Deployment) -> None:
    upload = await world.ready(OWNER)
    image = upload.command
    manifest = manifest_key(image.image_id, image.revision, image.ladder.digest)
    kept = decode_manifest(await world.store.get(manifest))
    fields = kept.event.model_dump(exclude={"type", "current"})
    failed = kept.model_copy(update={"event": Failed(**fields, error=Failure(type="corrupt", detail="?"))})
    for damage in (encode(failed), b"{}"):
        await world.store.put(manifest, damage, "application/json")
        assert ("wrong", manifest) in await of_image(world, image)
    folder = manifest.removesuffix("manifest.json")
    await world.store.delete([info.key for info in await world.store.list(folder)])
    await world.answer(await world.reprocess(upload, world.ladder))
    assert await of_image(world, image) == set()


async def test_unreadable_tombstone_is_found_and_repaired(world: Deployment) -> None:
    upload = await world.ready(OWNER)
    image = upload.command
    await world.delete(upload)
    key = tombstone_key(image.image_id)
    await world.store.put(key, b"{}", "application/json")
    assert await of_image(world, image) == {("wrong", key)}
    assert await of_image(world, image, with_repair=True) == set()
    assert await read_tombstone(world.store, image.image_id) is not None


async def test_a_fence_that_left_an_image_is_found_until_the_image_is_gone(world: Deployment) -> None:
    owner = Owner(type="verify", id="cleared")
    upload = await world.ready(owner)
    image = upload.command
    await world.commands.append(OwnerCleared(owner=owner))
    later = (await world.ready(owner)).command
    assert await of_image(world, image) == {("unanswered", "fence")}
    assert await of_image(world, later) == set()
    await world.delete(upload)
    assert await of_image(world, image) == set()


@pytest.mark.parametrize("action", ["redrive", "drop"])
async def test_a_command_in_the_dlq_counts_until_it_is_answered_or_dropped(world: Deployment, action: str) -> None:
    sender = Producer(world.settings)
    await sender.start()
    try:
        upload = await world.upload(OWNER)
        image = upload.command
        entry = await _dead(world, sender, upload)
        assert await of_image(world, image) == {("unanswered", "dlq")}
        if action == "redrive":
            assert await redrive(entry, world.settings, sender, world.store) == "redriven"
            assert await of_image(world, image) == {("unanswered", "log")}
            await world.answer(upload)
        else:
            await settle(entry, world.settings, sender, DROPPED)
        assert await of_image(world, image) == set()
    finally:
        await sender.close()


async def test_old_objects_of_unknown_images_are_extra(world: Deployment) -> None:
    unknown = await _command(world)
    assert await of_image(world, unknown) == {("extra", unknown.original.path)}
    document = await asyncio.to_thread(imagepipe_json, world.settings, "verify", "--pause", "0", code=1)
    assert not [each for each in document["differences"] if each["image_id"] == str(unknown.image_id)]


async def test_an_unanswered_command_and_a_manifest_without_answer_are_found(world: Deployment) -> None:
    upload = await world.upload(OWNER)
    image = upload.command
    assert await of_image(world, image) == {("unanswered", "log")}
    # Rendered, and the answer is lost, as after a truncation of the events topic.
    silent = Handler(world.store, render, MemoryEventLog(), world.settings.public_base_url)
    await silent.handle(upload)
    manifest = manifest_key(image.image_id, image.revision, image.ladder.digest)
    assert await of_image(world, image) == {("unanswered", "log"), ("unanswered", manifest)}
    assert await of_image(world, image, with_repair=True) == set()
    row = await world.index.image(image.image_id)
    assert row is not None
    assert row.current is not None


async def test_verify_repairs_and_reports_the_rest(world: Deployment) -> None:
    upload = await world.upload(OWNER)
    image = upload.command
    await world.handler.handle(upload)
    arguments = ["verify", "--pause", "0", "--repair"]
    assert str(image.image_id) in await asyncio.to_thread(imagepipe, world.settings, *arguments, "--dry-run", code=1)
    printed = await asyncio.to_thread(imagepipe, world.settings, *arguments, "--yes", code=1)
    assert str(image.image_id) not in printed
    assert "reindex --into" in printed  # what the tests above have left over


async def _command(world: Deployment) -> Uploaded:
    """A command that was not appended; its original is stored."""
    image_id, revision = new_id(), new_id()
    original = await world.original(image_id, revision)
    return Uploaded(image_id=image_id, owner=OWNER, revision=revision, original=original, ladder=world.ladder)


async def _dead(world: Deployment, sender: Producer, logged: LoggedRenderCommand) -> DeadLetter:
    """The DLQ entry of a processor that cannot handle the command."""
    headers = dead_letter_headers(
        [], topic=world.settings.topic(Topic.COMMANDS), partition=0, offset=0, version=logged.version,
        error=RuntimeError("?"), attempts=3,
    )  # fmt: skip
    command = logged.command
    await KafkaDeadLetters(sender, world.settings).send(command.owner.key.encode(), encode(command), headers)
    [entry] = await unsettled(world.settings, Filter(owner=command.owner))
    return entry
