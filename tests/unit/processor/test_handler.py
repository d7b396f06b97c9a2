"""The handler answers each command once, by the manifests in the bucket and the command's version."""

import asyncio
import hashlib
import json
from collections.abc import Callable, Sequence
from typing import Any
from uuid import UUID

import pytest

from processor.handler import Handler
from processor.rendering.render import RenderedVariant, Rendering
from shared.contract.events import (
    Deleted,
    Event,
    Failed,
    OwnerCleared,
    Ready,
    Removed,
    RenderCommand,
    Replaced,
    Reprocess,
    Superseded,
    Uploaded,
)
from shared.contract.keys import (
    Owner,
    command_version,
    image_prefix,
    manifest_key,
    revision_prefix,
    tombstone_key,
    variant_key,
)
from shared.contract.ladder import Ladder, Rung
from shared.contract.logged_command import LoggedRenderCommand, versioned
from shared.errors import ImageRejected, PoisonRecord, Unavailable, UnknownOutcome
from shared.ports import ObjectInfo
from tests.support import images, records
from tests.support.memory.ports import MemoryEventLog, MemoryStore

Page = tuple[Sequence[ObjectInfo], str | None]
ORIGINAL = b"as uploaded"
SHA256 = hashlib.sha256(ORIGINAL).hexdigest()
OTHER_LADDER = Ladder(rungs=(Rung(name="tiny", width=10, fraction=0.1, quality=50),))


def version(offset: int) -> int:
    return command_version(1, offset)


class Bench:
    """The handler over engines in memory. Its renderer counts its calls, and may first run a function or refuse."""

    def __init__(self) -> None:
        self.store = MemoryStore()
        self.events = MemoryEventLog()
        self.rendered = 0
        self.before_render: Callable[[], None] = lambda: None
        self.handler = Handler(self.store, self.render, self.events, records.BASE)

    async def render(self, owner: Owner, data: bytes, ladder: Ladder) -> Rendering:
        self.rendered += 1
        self.before_render()
        assert data == ORIGINAL
        variants = tuple(
            RenderedVariant(name, name.encode(), 40, 30, hashlib.sha256(name.encode()).hexdigest())
            for name in ladder.names
        )
        return Rendering(40, 30, variants, "thumb", "#102030", ("a note",))

    async def put_original(self, command: RenderCommand) -> None:
        await self.store.put(command.original.path, ORIGINAL, command.original.content_type)

    async def handle(self, command: RenderCommand | Deleted, offset: int) -> Event:
        answer = await self.handler.handle(versioned(command, version(offset)))
        assert answer is not None
        assert self.events.events[-1] == answer
        return answer

    def keys(self, image_id: UUID) -> list[str]:
        return sorted(key for key in self.store.objects if key.startswith(image_prefix(image_id)))


@pytest.fixture
def bench() -> Bench:
    return Bench()


@pytest.fixture
async def upload(bench: Bench) -> Uploaded:
    command = records.uploaded()
    command = command.model_copy(update={"original": command.original.model_copy(update={"sha256": SHA256})})
    await bench.put_original(command)
    return command


async def replacement(bench: Bench, upload: Uploaded) -> Replaced:
    command = records.replaced(upload.image_id, version(0))
    command = command.model_copy(update={"original": command.original.model_copy(update={"sha256": SHA256})})
    await bench.put_original(command)
    return command


def again(upload: RenderCommand, ladder: Ladder = OTHER_LADDER, revision_version: int | None = None) -> RenderCommand:
    return Reprocess(
        image_id=upload.image_id,
        owner=upload.owner,
        image_version=version(0),
        revision=upload.revision,
        revision_version=version(0) if revision_version is None else revision_version,
        original=upload.original,
        ladder=ladder,
    )


async def test_an_upload_is_rendered_stored_and_answered(bench: Bench, upload: Uploaded) -> None:
    answer = await bench.handle(upload, 7)
    assert isinstance(answer, Ready)
    assert (answer.version, answer.answers, answer.image_version) == (version(7), "image.uploaded", version(7))
    assert answer.request == LoggedRenderCommand(upload, version(7)).request
    current = answer.current
    assert (current.thumbhash, current.dominant_color, current.notes) == ("thumb", "#102030", ("a note",))
    assert [variant.name for variant in current.variants] == ["full", "large", "medium", "small"]
    for variant in current.variants:
        stored = bench.store.objects[variant.path]
        assert (stored.data, stored.content_type) == (variant.name.encode(), "image/webp")
        assert variant.sha256 == hashlib.sha256(stored.data).hexdigest()
        assert variant.size == len(stored.data)
        assert variant.url == f"{records.BASE}/media/{variant.path}"
    assert manifest_key(upload.image_id, upload.revision, upload.ladder.digest) in bench.store.objects


async def test_a_command_delivered_twice_is_rendered_once_and_answered_alike(bench: Bench, upload: Uploaded) -> None:
    assert await bench.handle(upload, 7) == await bench.handle(upload, 7)
    assert bench.rendered == 1


async def test_a_command_sent_twice_is_rendered_once_and_answered_for_its_own_version(
    bench: Bench, upload: Uploaded
) -> None:
    first = await bench.handle(upload, 7)
    second = await bench.handle(upload, 9)
    assert isinstance(first, Ready)
    assert isinstance(second, Ready)
    assert bench.rendered == 1
    assert (second.version, second.image_version) == (version(9), version(9))
    assert second.request == LoggedRenderCommand(upload, version(9)).request
    assert second.current == first.current, "the served revision did not change"


async def test_a_later_revision_supersedes_an_earlier_one(bench: Bench, upload: Uploaded) -> None:
    newer = await replacement(bench, upload)
    await bench.handle(newer, 3)
    answer = await bench.handle(upload, 1)
    assert isinstance(answer, Superseded)
    assert answer.superseded_by.revision == newer.revision
    assert answer.superseded_by.revision_version == version(3)
    assert bench.rendered == 1
    assert upload.original.path in bench.store.objects, "nothing is deleted on a guess"


async def test_a_later_render_of_the_same_revision_supersedes(bench: Bench, upload: Uploaded) -> None:
    await bench.handle(again(upload), 5)
    assert isinstance(await bench.handle(upload, 0), Superseded)


async def test_a_reprocess_of_an_old_revision_is_superseded_by_a_newer_revision(bench: Bench, upload: Uploaded) -> None:
    await bench.handle(upload, 0)
    await bench.handle(await replacement(bench, upload), 3)
    assert isinstance(await bench.handle(again(upload), 8), Superseded)


async def test_a_failed_replacement_leaves_the_previous_revision(bench: Bench, upload: Uploaded) -> None:
    ready = await bench.handle(upload, 0)
    assert isinstance(ready, Ready)

    def refuse() -> None:
        raise ImageRejected("undecodable", "The decoder could not read the picture.")

    bench.before_render = refuse
    newer = await replacement(bench, upload)
    answer = await bench.handle(newer, 3)
    assert isinstance(answer, Failed)
    assert answer.error.type == "undecodable"
    assert all(variant.path in bench.store.objects for variant in ready.current.variants)
    # The failure is recorded, and supersedes nothing.
    assert await bench.handle(newer, 3) == answer
    assert bench.rendered == 2
    assert isinstance(await bench.handle(upload, 0), Ready)


async def test_a_reprocess_has_its_own_folder(bench: Bench, upload: Uploaded) -> None:
    await bench.handle(upload, 0)
    answer = await bench.handle(again(upload, upload.ladder), 4)
    assert isinstance(answer, Ready)
    assert answer.current.render == f"{upload.ladder.digest}-{version(4)}"
    assert answer.request.revision_version == version(0)
    assert bench.rendered == 2


async def test_a_changed_original_is_corrupt(bench: Bench, upload: Uploaded) -> None:
    await bench.store.put(upload.original.path, b"something else", "image/jpeg")
    answer = await bench.handle(upload, 0)
    assert isinstance(answer, Failed)
    assert answer.error.type == "corrupt"
    assert bench.rendered == 0


async def test_a_lost_original_fails_without_a_manifest(bench: Bench, upload: Uploaded) -> None:
    await bench.store.delete([upload.original.path])
    answer = await bench.handle(upload, 0)
    assert isinstance(answer, Failed)
    assert answer.error.type == "original_lost"
    await bench.put_original(upload)
    assert isinstance(await bench.handle(upload, 0), Ready)


async def test_original_that_was_swept_after_another_workers_render_is_not_lost(bench: Bench, upload: Uploaded) -> None:
    """The group removes the worker before it reads the original, which is superseded and swept before it continues."""
    other = Handler(bench.store, bench.render, bench.events, records.BASE)
    newer = await replacement(bench, upload)
    get = bench.store.get

    async def overtaken(key: str) -> bytes:
        if key == upload.original.path:
            bench.store.get = get  # type: ignore[method-assign]
            await other.handle(versioned(upload, version(0)))
            await other.handle(versioned(newer, version(1)))
            await bench.store.delete([upload.original.path])
        return await get(key)

    bench.store.get = overtaken  # type: ignore[method-assign]
    answer = await bench.handle(upload, 0)
    assert isinstance(answer, Superseded)


async def test_a_deletion_between_two_looks_is_not_a_lost_original(bench: Bench, upload: Uploaded) -> None:
    """The sweep has taken the original, and the deletion takes the manifests while they are listed again."""
    await bench.store.delete([upload.original.path])
    listed, count = bench.store.page, 0

    async def overtaken(prefix: str, token: str | None = None, **options: Any) -> Page:
        nonlocal count
        count += 1
        found = await listed(prefix, token, **options)
        if count == 2:
            await bench.handle(Deleted(image_id=upload.image_id, owner=upload.owner), 4)
        return found

    bench.store.page = overtaken  # type: ignore[method-assign]
    answer = await bench.handle(upload, 0)
    assert isinstance(answer, Removed)
    assert answer.removed_version == version(4) | 1


async def test_no_variant_is_written_after_the_handler_has_failed(bench: Bench, upload: Uploaded) -> None:
    """The next try may find a tombstone and delete the revision: what lands after that would stay."""
    put, ended = bench.store.put, 0

    async def slow_or_refused(key: str, data: bytes, content_type: str, *, if_absent: bool = False) -> str:
        nonlocal ended
        if key.endswith("/small.webp"):
            raise Unavailable("s3", "away")
        try:
            for _ in range(5):
                await asyncio.sleep(0)
            return await put(key, data, content_type, if_absent=if_absent)
        finally:
            ended += 1

    bench.store.put = slow_or_refused  # type: ignore[method-assign]
    with pytest.raises(Unavailable):
        await bench.handler.handle(versioned(upload, version(0)))
    written = [key for key in bench.keys(upload.image_id) if key.endswith(".webp")]
    assert ended == len(written) == len(upload.ladder.names) - 1


async def test_a_delete_leaves_a_tombstone_and_nothing_else(bench: Bench, upload: Uploaded) -> None:
    await bench.handle(upload, 0)
    answer = await bench.handle(Deleted(image_id=upload.image_id, owner=upload.owner), 4)
    assert isinstance(answer, Removed)
    assert (answer.version, answer.removed_version) == (version(4), version(4) | 1)
    assert bench.keys(upload.image_id) == []
    stored = json.loads(bench.store.objects[tombstone_key(upload.image_id)].data)
    assert stored == {"version": str(version(4) | 1)}


async def test_commands_to_a_deleted_image_are_answered_removed_and_cleaned_up(bench: Bench, upload: Uploaded) -> None:
    await bench.handle(Deleted(image_id=upload.image_id, owner=upload.owner), 4)
    newer = await replacement(bench, upload)
    answer = await bench.handle(newer, 6)
    assert isinstance(answer, Removed)
    assert (answer.answers, answer.removed_version) == ("image.replaced", version(6) | 1)
    assert bench.keys(upload.image_id) == []
    # The command is answered after the delete, although it was sent before it: the deletion's version is higher.
    late = await bench.handle(upload, 0)
    assert isinstance(late, Removed)
    assert late.removed_version == version(4) | 1


async def test_an_earlier_delete_that_comes_late_does_not_lower_the_tombstone(bench: Bench, upload: Uploaded) -> None:
    delete = Deleted(image_id=upload.image_id, owner=upload.owner)
    await bench.handle(delete, 8)
    answer = await bench.handle(delete, 4)
    assert isinstance(answer, Removed)
    assert answer.removed_version == version(8) | 1


async def test_delete_during_the_render_wins(bench: Bench, upload: Uploaded) -> None:
    def delete() -> None:
        bench.store.objects.clear()
        data = json.dumps({"version": str(version(4) | 1)}).encode()
        bench.store.objects[tombstone_key(upload.image_id)] = type(stored)(data, "application/json", stored.modified)

    stored = bench.store.objects[upload.original.path]
    bench.before_render = delete
    answer = await bench.handle(upload, 0)
    assert isinstance(answer, Removed)
    assert answer.removed_version == version(4) | 1
    assert bench.keys(upload.image_id) == []


async def test_worker_that_loses_the_manifest_race_returns_the_winners_answer(bench: Bench, upload: Uploaded) -> None:
    other = Bench()
    await other.put_original(upload)
    winner = await other.handle(upload, 0)
    key = manifest_key(upload.image_id, upload.revision, upload.ladder.digest)

    def refuse_after_the_other_won() -> None:
        bench.store.objects[key] = other.store.objects[key]
        raise ImageRejected("timeout", "Rendering took longer than allowed, twice.")

    bench.before_render = refuse_after_the_other_won
    assert await bench.handle(upload, 0) == winner


async def test_manifest_records_the_stored_bytes_if_another_encoding_was_first(bench: Bench, upload: Uploaded) -> None:
    stored = images.encode(images.solid((1, 2, 3), size=(21, 13)), "WEBP")
    path = variant_key(upload.image_id, upload.revision, upload.ladder.digest, "small")
    await bench.store.put(path, stored, "image/webp")
    answer = await bench.handle(upload, 0)
    assert isinstance(answer, Ready)
    small = answer.current.variants[-1]
    assert (small.width, small.height, small.size) == (21, 13, len(stored))
    assert small.sha256 == hashlib.sha256(stored).hexdigest()


async def test_the_fence_has_no_answer_and_no_effect(bench: Bench, upload: Uploaded) -> None:
    before = dict(bench.store.objects)
    assert await bench.handler.handle(versioned(OwnerCleared(owner=upload.owner), version(3))) is None
    assert bench.events.events == []
    assert bench.store.objects == before


async def test_an_unpublished_answer_is_published_at_the_next_try_without_rendering_again(
    bench: Bench, upload: Uploaded, monkeypatch: pytest.MonkeyPatch
) -> None:
    publish = MemoryEventLog.publish

    async def no_ack(self: MemoryEventLog, event: Event, *, traceparent: str | None = None) -> None:
        raise UnknownOutcome("kafka", "no ack")

    monkeypatch.setattr(MemoryEventLog, "publish", no_ack)
    with pytest.raises(UnknownOutcome):
        await bench.handler.handle(versioned(upload, version(0)))
    monkeypatch.setattr(MemoryEventLog, "publish", publish)
    assert isinstance(await bench.handle(upload, 0), Ready)
    assert bench.rendered == 1


async def test_outage_while_variants_are_written_publishes_no_answer(
    bench: Bench, upload: Uploaded, monkeypatch: pytest.MonkeyPatch
) -> None:
    put = MemoryStore.put

    async def away(self: MemoryStore, key: str, data: bytes, content_type: str, *, if_absent: bool = False) -> str:
        if key.endswith("medium.webp"):
            raise Unavailable("s3", "away")
        return await put(self, key, data, content_type, if_absent=if_absent)

    monkeypatch.setattr(MemoryStore, "put", away)
    with pytest.raises(Unavailable):
        await bench.handler.handle(versioned(upload, version(0)))
    assert bench.events.events == []
    assert not [key for key in bench.keys(upload.image_id) if key.endswith("manifest.json")]


async def test_unreadable_manifest_is_an_unexpected_error(bench: Bench, upload: Uploaded) -> None:
    key = f"{revision_prefix(upload.image_id, upload.revision)}{'0' * 16}/manifest.json"
    await bench.store.put(key, b"{}", "application/json")
    with pytest.raises(PoisonRecord):
        await bench.handler.handle(versioned(upload, version(0)))


@pytest.mark.parametrize("data", [b"", b"{}", b"[]", b"[" * 10_000, b'{"version":[]}', b'{"version":1e999}'])
async def test_unreadable_tombstone_is_an_unexpected_error(bench: Bench, upload: Uploaded, data: bytes) -> None:
    await bench.store.put(tombstone_key(upload.image_id), data, "application/json")
    with pytest.raises(PoisonRecord, match="is not a tombstone"):
        await bench.handler.handle(versioned(upload, version(0)))
