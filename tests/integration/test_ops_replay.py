"""`imagepipe replay` and `reprocess` on real engines."""

import asyncio

import pytest

from ops.log.reader import TopicReader, read_topic
from shared.consuming.record import ConsumedRecord
from shared.contract.events import Failed, Ready, Reprocess
from shared.contract.keys import Owner, image_prefix, tombstone_key
from shared.contract.logged_command import LoggedRenderCommand, read_command
from shared.read_model.documents import document, status
from shared.settings import Topic
from tests.support.processes.imagepipe import imagepipe_json
from tests.support.synthetic import Deployment

OWNER = Owner(type="replay", id="1")


async def _objects(world: Deployment) -> dict[str, tuple[str, object]]:
    return {info.key: (info.etag, info.modified) for info in await world.store.list("images/")}


async def _reprocesses(world: Deployment) -> list[LoggedRenderCommand]:
    """Every command of `imagepipe reprocess`, in the order of the log."""
    records: list[ConsumedRecord] = []
    await read_topic(world.settings, Topic.COMMANDS, records.extend)
    commands = [read_command(each, world.settings.epoch) for each in records]
    reprocesses = [
        each for each in commands if isinstance(each, LoggedRenderCommand) and isinstance(each.command, Reprocess)
    ]
    return sorted(reprocesses, key=lambda each: each.version)


async def test_finished_commands_are_skipped_and_no_object_changes(world: Deployment) -> None:
    await world.many(10, owners=2)
    await world.delete(await world.ready(OWNER))
    before = await _objects(world)
    arguments = ["replay", "--from", "beginning", "--yes"]
    done = await asyncio.to_thread(imagepipe_json, world.settings, *arguments)
    assert (done["commands"], done["finished"], done["answers"]) == (12, 12, {})
    done = await asyncio.to_thread(imagepipe_json, world.settings, *arguments, "--again")
    assert done["answers"] == {"image.ready": 10, "image.removed": 2}
    assert (done["rendered"], done["failures"]) == (0, {})
    assert await _objects(world) == before


async def test_unfinished_commands_are_handled_and_deleted_images_stay_deleted(world: Deployment) -> None:
    waiting = (await world.upload(OWNER)).command  # not a picture, so the answer is a failure
    other = (await world.upload(Owner(type="replay", id="2"))).command
    gone = (await world.upload(OWNER)).command
    await world.store.put(tombstone_key(gone.image_id), b'{"version": "99"}', "application/json")
    dry = ["replay", "--from", "beginning", "--owner", OWNER.key]
    assert (await asyncio.to_thread(imagepipe_json, world.settings, *dry, "--dry-run"))["answers"] == {}
    done = await asyncio.to_thread(imagepipe_json, world.settings, *dry, "--yes")
    assert (done["commands"], done["finished"], done["answers"]) == (2, 1, {"image.failed": 1})
    keys = {info.key for info in await world.store.list(image_prefix(waiting.image_id))}
    assert any(key.endswith("manifest.json") for key in keys)
    assert len(await world.store.list(image_prefix(other.image_id))) == 1
    async with TopicReader(world.settings, Topic.COMMANDS) as reader:
        assert sum((await reader.ends()).values()) == 3  # no command was published


async def test_a_reprocess_is_published_for_each_image_of_another_ladder_and_paced(world: Deployment) -> None:
    await world.many(3, owners=1)
    await world.ready(OWNER)
    assert (await asyncio.to_thread(imagepipe_json, world.settings, "reprocess", "--dry-run"))["matched"] == 0
    ladder = world.ladder.model_copy(update={"full_quality": 60})
    changed = world.settings.model_copy(update={"ladder": ladder})
    assert (await asyncio.to_thread(imagepipe_json, changed, "reprocess", "--dry-run"))["matched"] == 4
    # No group consumes: with room for one more than the log holds, one reprocess is published.
    arguments = ["reprocess", "--owner", OWNER.key, "--backlog", "5", "--yes"]
    done = await asyncio.to_thread(imagepipe_json, changed, *arguments)
    assert (done["matched"], done["published"]) == (1, 1)
    (reprocess,) = await _reprocesses(world)
    assert reprocess.command.ladder == ladder
    # Once answered, the image has the current ladder.
    await world.answer(reprocess)
    assert (await asyncio.to_thread(imagepipe_json, changed, *arguments))["matched"] == 0


@pytest.mark.parametrize("where", ["ladder!=current", "all"])
async def test_served_revision_below_a_failed_replacement_gets_the_new_ladder(world: Deployment, where: str) -> None:
    upload = await world.ready(OWNER)
    replacement = await world.replace(upload)
    first, failed = upload.command, replacement.command
    await world.store.put(failed.original.path, b"something else", "image/png")
    assert isinstance(await world.answer(replacement), Failed)
    before = await world.index.image(first.image_id)
    assert before is not None

    ladder = world.ladder.model_copy(update={"full_quality": 60})
    changed = world.settings.model_copy(update={"ladder": ladder})
    # The cause of the failure is gone, but the command was not repeated.
    await world.store.put(failed.original.path, f"picture {failed.revision}".encode(), "image/png")
    await asyncio.to_thread(imagepipe_json, changed, "reprocess", "--where", where, "--backlog", "9", "--yes")
    (reprocess,) = await _reprocesses(world)
    assert (reprocess.command.revision, reprocess.revision_version) == (first.revision, upload.version)
    assert isinstance(await world.answer(reprocess), Ready)

    after = await world.index.image(first.image_id)
    assert after is not None
    assert after.current is not None
    assert (after.current.revision, after.current.render.split("-")[0]) == (first.revision, ladder.digest)
    assert (after.request, after.outcome, status(after)) == (before.request, before.outcome, "failed")
    assert document(after, "")["pending"] == document(before, "")["pending"]
    assert (await asyncio.to_thread(imagepipe_json, changed, "reprocess", "--dry-run"))["matched"] == 0

    # The failed command may still be repeated: its version is above that of the served render.
    await asyncio.to_thread(imagepipe_json, changed, "reprocess", "--where", "failed", "--backlog", "9", "--yes")
    _, reprocess = await _reprocesses(world)
    assert reprocess.command.revision == failed.revision
    assert isinstance(await world.answer(reprocess), Ready)
    last = await world.index.image(first.image_id)
    assert last is not None
    assert last.current is not None
    assert (last.current.revision, status(last)) == (failed.revision, "ready")


async def test_replacement_with_a_lost_original_is_not_overtaken(world: Deployment) -> None:
    replacement = await world.replace(await world.ready(OWNER))
    lost = replacement.command
    await world.store.delete([lost.original.path])
    assert isinstance(await world.answer(replacement), Failed)
    changed = world.settings.model_copy(update={"ladder": world.ladder.model_copy(update={"full_quality": 60})})
    for where, matched in (("ladder!=current", 0), ("all", 0), ("failed", 1)):
        done = await asyncio.to_thread(imagepipe_json, changed, "reprocess", "--where", where, "--dry-run")
        assert done["matched"] == matched
    await world.store.put(lost.original.path, f"picture {lost.revision}".encode(), "image/png")
    await world.answer(replacement)
    row = await world.index.image(lost.image_id)
    assert row is not None
    assert row.current is not None
    assert row.current.revision == lost.revision
