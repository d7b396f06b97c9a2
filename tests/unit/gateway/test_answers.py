"""Answers that arrive: they wake waiting requests and renew caches once the row shows them, and not before."""

import asyncio
from datetime import timedelta
from uuid import UUID

import pytest

from gateway.services import answers as module
from gateway.services.answers import Answers
from gateway.services.changes import Changes
from shared.contract.events import Event, Failure, SupersededBy
from shared.contract.keys import Owner, new_id
from shared.contract.ladder import Ladder
from shared.contract.logged_command import LoggedRenderCommand
from shared.errors import Unavailable
from shared.observability.metrics import Service
from shared.read_model.documents import ImageRow, shows
from shared.read_model.tables import command_writes, event_writes
from tests.support import records
from tests.support.images import encode, photo
from tests.support.memory.gateway import FailingIndex, MemoryGateway, memory_settings
from tests.support.memory.ports import MemoryIndex
from tests.support.metric_samples import sample
from tests.support.waiting import Stopwatch, wait_for_async

PNG = encode(photo(40, 30), "PNG")
SHARDS = 4


class World:
    """An index that counts its reads, and a cache that has something of every image if `cached`."""

    def __init__(self, *, cached: bool = True) -> None:
        self.index = CountingIndex()
        self.noted: list[UUID | None] = []
        changes = Changes()
        changes.listen(self._note, lambda _image_id, _owner: cached)
        self.answers = Answers(self.index, changes)

    def _note(self, image_id: UUID | None, _owner: Owner) -> None:
        self.noted.append(image_id)


class CountingIndex(FailingIndex):
    reads = 0

    async def image(self, image_id: UUID) -> ImageRow | None:
        self.reads += 1
        return await super().image(image_id)


async def test_a_cache_is_renewed_once_the_row_shows_the_answer() -> None:
    world, event = World(), records.ready(new_id(), new_id(), 8)
    world.answers.arrived(event)
    await wait_for_async(lambda: world.index.reads >= 3, 5, "the row is read again")
    assert world.noted == []
    await world.index.apply(event_writes(event, SHARDS))
    await wait_for_async(lambda: world.noted == [event.image_id], 5, "the cache is renewed")
    reads = world.index.reads
    await asyncio.sleep(0.15)
    assert world.index.reads == reads


async def test_what_nothing_waits_for_is_not_read() -> None:
    world = World(cached=False)
    event = records.ready(new_id(), new_id(), 8)
    world.answers.arrived(event)
    await asyncio.sleep(0.02)
    assert world.index.reads == 0
    with world.answers.awaited(event.image_id) as woken:
        await world.index.apply(event_writes(event, SHARDS))
        world.answers.arrived(event)
        await asyncio.wait_for(woken.wait(), 5)
    assert world.noted == [event.image_id]


async def test_a_row_that_never_shows_the_answer_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "LONGEST_SECONDS", 0.05)
    world = World()
    world.answers.arrived(records.ready(new_id(), new_id(), 8))
    await asyncio.sleep(0.3)
    reads = world.index.reads
    await asyncio.sleep(0.3)
    assert world.index.reads == reads > 0
    assert world.noted == []


async def test_at_most_so_many_rows_are_read_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_AT_ONCE", 2)
    world = World()
    events = [records.ready(new_id(), new_id(), 8) for _ in range(5)]
    for event in events:
        await world.index.apply(event_writes(event, SHARDS))
        world.answers.arrived(event)
    await wait_for_async(lambda: len(world.noted) >= 2, 5, "two answers are noticed")
    await asyncio.sleep(0.05)
    assert world.noted == [event.image_id for event in events[:2]]


@pytest.mark.parametrize("error", [Unavailable("cassandra", "unavailable"), RuntimeError("a bug")])
async def test_an_error_of_the_index_changes_nothing(error: Exception, monkeypatch: pytest.MonkeyPatch) -> None:
    world = World()

    async def image(_image_id: UUID) -> None:
        world.index.reads += 1
        raise error

    monkeypatch.setattr(world.index, "image", image)
    world.answers.arrived(records.ready(new_id(), new_id(), 8))
    await asyncio.sleep(0.05)
    assert world.index.reads == 1
    assert world.noted == []


async def test_a_waiting_request_ends_when_its_answer_arrives(monkeypatch: pytest.MonkeyPatch) -> None:
    """Not when it reads the row by itself, which would take minutes here."""
    monkeypatch.setattr("gateway.services.waiting.FIRST_PAUSE", 300.0)
    gateway = MemoryGateway()
    async with gateway.client() as client:
        request = {"files": {"image": ("a.png", PNG)}, "headers": {"Prefer": "wait=20"}}
        waiting = asyncio.create_task(client.post("/images", **request))  # type: ignore[arg-type]
        await wait_for_async(
            lambda: sample(Service.GATEWAY, "imagepipe_gateway_waiting_requests") > 0, 10, "the request waits"
        )
        [command] = gateway.log.commands
        event = LoggedRenderCommand(command, gateway.settings.epoch << 52).failed(  # type: ignore[arg-type]
            Failure(type="undecodable", detail="no picture")
        )
        watch = Stopwatch()
        await gateway.index.apply(event_writes(event, gateway.settings.day_shards))
        gateway.services.answers.arrived(event)
        answer = await waiting

    assert (answer.status_code, answer.json()["status"]) == (200, "failed")
    assert watch.seconds() < 10


async def test_a_list_shows_an_answer_of_another_process_before_its_age_ends() -> None:
    gateway = MemoryGateway(settings=memory_settings(list_cache_ttl=timedelta(minutes=5)))
    event = records.ready(new_id(), new_id(), 8)
    async with gateway.client() as client:
        for path in ("/images?user_id=1", "/images", f"/images/{event.image_id}/metadata"):
            assert event.image_id.hex not in (await client.get(path)).text.replace("-", "")
        await gateway.index.apply(event_writes(event, gateway.settings.day_shards))
        assert (await client.get("/images?user_id=1")).json() == []
        gateway.services.answers.arrived(event)
        await asyncio.sleep(0.05)
        for path in ("/images?user_id=1", "/images", f"/images/{event.image_id}/metadata"):
            assert event.image_id.hex in (await client.get(path)).text.replace("-", "")


IMAGE, OTHER, LATER = new_id(), new_id(), new_id()
BY = SupersededBy(revision=LATER, revision_version=20, render=Ladder().digest)
EVENTS: list[Event] = [
    records.ready(IMAGE, OTHER, 8),
    records.failed(IMAGE, OTHER, 8),
    records.superseded(IMAGE, OTHER, 8, BY),
    records.ready(
        IMAGE, OTHER, 12, answers="image.reprocess", image_version=8, revision_version=8,
        render=f"{Ladder().digest}-12",
    ),
]  # fmt: skip


@pytest.mark.parametrize("event", EVENTS, ids=lambda event: event.type)
async def test_a_row_shows_an_answer_once_it_is_written(event: Event) -> None:
    index = MemoryIndex()
    assert not shows(None, event)
    upload = LoggedRenderCommand(records.uploaded(IMAGE, OTHER), 8)
    await index.apply(command_writes(upload, SHARDS))
    assert not shows(await index.image(IMAGE), event)
    await index.apply(event_writes(event, SHARDS))
    assert shows(await index.image(IMAGE), event)
    replacement = LoggedRenderCommand(records.replaced(IMAGE, 8, LATER), 20)
    await index.apply(command_writes(replacement, SHARDS))
    await index.apply(event_writes(records.ready(IMAGE, LATER, 20, image_version=8, answers="image.replaced"), SHARDS))
    assert shows(await index.image(IMAGE), event)
    removed = records.removed(IMAGE, 30)
    assert not shows(await index.image(IMAGE), removed)
    await index.apply(event_writes(removed, SHARDS))
    assert shows(await index.image(IMAGE), removed)


async def test_an_answer_that_changes_no_row_is_shown_by_every_row() -> None:
    index = MemoryIndex()
    await index.apply(command_writes(LoggedRenderCommand(records.uploaded(IMAGE, OTHER), 8), SHARDS))
    assert shows(
        await index.image(IMAGE),
        records.failed(IMAGE, OTHER, 12, answers="image.reprocess", image_version=8, revision_version=8),
    )
