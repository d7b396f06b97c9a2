"""Live events: positions, the ring of recent events, and what each listener is sent."""

import asyncio
import re
from collections.abc import AsyncIterator
from contextlib import aclosing
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.events import listeners as module
from gateway.events.listeners import Listeners, Selection, TooManyListeners
from gateway.events.position import Position
from gateway.events.ring import OVERHEAD, Ring
from shared.contract.encoding import encode
from shared.contract.keys import MAX_BIGINT, Owner, new_id
from shared.errors import Unavailable
from tests.support import records
from tests.support.clock import Clock

OFFSETS = st.lists(st.integers(0, MAX_BIGINT), min_size=1, max_size=40).map(tuple)
REVISION = new_id()


class World:
    """A ring of two partitions, a writer to it, and listeners."""

    def __init__(self, *, max_bytes: int = 1_000_000, max_age: float = 600, limit: int = 10) -> None:
        self.clock: Clock[float] = Clock(0.0)
        self.ring = Ring(1, (100, 200), max_bytes=max_bytes, max_age=max_age, clock=self.clock)
        self.listeners = Listeners(limit)
        self.listeners.open(self.ring)

    def publish(self, partition: int, image_id: UUID | None = None, owner: Owner = records.OWNER) -> str:
        """Append an event; its position."""
        event = records.ready(image_id or new_id(), REVISION, 8).model_copy(update={"owner": owner})
        offset = self.ring.next_offsets[partition]
        added = self.ring.append(partition, offset, event, encode(event))
        self.listeners.published(added)
        return added.position

    def stream(self, last_id: str | None = None, selection: Selection | None = None) -> AsyncIterator[bytes]:
        return self.listeners.stream(selection or Selection(), last_id)


def offsets_of(frames: bytes) -> list[str]:
    """Ids of the events in these frames, in order."""
    return re.findall(r"data: .*\nid: (\S+)\n", frames.decode())


async def next_frames(stream: AsyncIterator[bytes]) -> bytes:
    async with asyncio.timeout(5):
        return await anext(stream)


@given(st.integers(0, 2047), OFFSETS)
def test_a_position_is_read_again(epoch: int, offsets: tuple[int, ...]) -> None:
    position = Position(epoch, offsets)
    assert Position.parse(str(position)) == position


@given(st.text(max_size=40) | st.binary(max_size=40).map(lambda data: data.hex()))
def test_a_text_that_is_no_position_is_none_or_has_one_spelling(text: str) -> None:
    found = Position.parse(text)
    assert found is None or str(found) == text


@pytest.mark.parametrize("text", ["", "AQ", "AQI", "A" * 20_000, "AQE=", "é", "_____________w"])
def test_these_are_no_positions(text: str) -> None:
    assert Position.parse(text) is None


def test_a_position_of_eight_partitions_is_short() -> None:
    assert len(str(Position(1, (10**9,) * 8))) <= 90


def test_the_ring_drops_the_oldest_events_and_knows_what_it_covers() -> None:
    world = World(max_age=60)
    first = world.publish(0)
    second = world.publish(1)
    assert world.ring.covers(Position(1, (100, 200)))
    world.clock.now += 61
    world.publish(0)
    assert not world.ring.covers(Position(1, (100, 200)))
    last_gone = Position.parse(second)
    assert first != second
    assert last_gone is not None
    assert world.ring.covers(last_gone)
    assert world.ring.oldest_sequence == 2
    assert world.ring.since(1) is None


def test_the_ring_is_bounded_in_bytes() -> None:
    world = World(max_bytes=10_000)
    for _ in range(50):
        world.publish(0)
    assert 0 < world.ring.size <= 10_000
    held = list(world.ring.since(world.ring.oldest_sequence) or ())
    assert sum(len(event.frame) + OVERHEAD for event in held) == world.ring.size


def test_another_epoch_or_partition_count_is_not_covered_and_a_later_position_is() -> None:
    ring = World().ring
    assert not ring.covers(Position(2, (100, 200)))
    assert not ring.covers(Position(1, (100,)))
    assert not ring.covers(Position(1, (100, 200, 0)))
    assert ring.covers(Position(1, (100, 10_000)))


async def test_a_listener_gets_what_comes_after_it_has_joined() -> None:
    world = World()
    world.publish(0)
    async with aclosing(world.stream()) as stream:  # type: ignore[type-var]
        greeting = (await next_frames(stream)).decode()
        assert f"id: {world.ring.position}\n" in greeting
        assert re.search(r"retry: [2-5]\d{3}\n", greeting)
        image_id = new_id()
        position = world.publish(1, image_id)
        frames = (await next_frames(stream)).decode()
    assert frames.startswith("event: image.ready\ndata: {")
    assert str(image_id) in frames
    assert offsets_of(frames.encode()) == [position]


async def test_a_listener_that_returns_misses_nothing_and_gets_nothing_twice() -> None:
    world = World()
    positions = [world.publish(number % 2) for number in range(6)]
    async with aclosing(world.stream(positions[2])) as stream:  # type: ignore[type-var]
        assert b"resync" not in await next_frames(stream)
        assert offsets_of(await next_frames(stream)) == positions[3:]
        later = world.publish(0)
        assert offsets_of(await next_frames(stream)) == [later]


async def test_a_listener_from_a_gateway_that_had_read_further_waits_for_this_one() -> None:
    world = World()
    ahead = str(Position(1, (102, 200)))
    async with aclosing(world.stream(ahead)) as stream:  # type: ignore[type-var]
        await next_frames(stream)
        other = world.publish(1)
        # Partition 0 is as far as the client knows, not as far as this gateway has read.
        assert offsets_of(await next_frames(stream)) == [str(Position(1, (102, 201)))]
        assert other == str(Position(1, (100, 201)))
        world.publish(0)
        world.publish(0)
        seen_before = world.publish(0)
        assert offsets_of(await next_frames(stream)) == [seen_before]


async def test_a_listener_that_was_away_for_too_long_is_told_to_read_again() -> None:
    world = World(max_age=60)
    old = world.publish(0)
    world.publish(0)
    world.clock.now += 61
    world.publish(0)
    async with aclosing(world.stream(old)) as stream:  # type: ignore[type-var]
        greeting = (await next_frames(stream)).decode()
        assert greeting.startswith("event: resync\n")
        assert f"id: {world.ring.position}\n" in greeting
        later = world.publish(1)
        assert offsets_of(await next_frames(stream)) == [later]


async def test_a_listener_gets_only_what_it_has_selected() -> None:
    world = World()
    mine, image_id = Owner(type="user", id="mine"), new_id()
    selections = {
        "owner": Selection(owners=frozenset({mine})),
        "image": Selection(image_id=image_id),
        "type": Selection(types=frozenset({"image.failed"})),
    }
    streams = {name: world.stream(selection=selection) for name, selection in selections.items()}
    for stream in streams.values():
        await next_frames(stream)
    world.publish(0)
    owned = world.publish(0, owner=mine)
    imaged = world.publish(1, image_id)
    assert offsets_of(await next_frames(streams["owner"])) == [owned]
    assert offsets_of(await next_frames(streams["image"])) == [imaged]
    world.listeners.close()
    assert [frames async for frames in streams["type"]] == []


async def test_a_quiet_listener_gets_its_position(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "KEEP_ALIVE_SECONDS", 0.05)
    world = World()
    async with aclosing(world.stream(selection=Selection(image_id=new_id()))) as stream:  # type: ignore[type-var]
        await next_frames(stream)
        position = world.publish(0)
        frames = (await next_frames(stream)).decode()
    assert f"id: {position}\n" in frames
    assert "data:" not in frames


async def test_a_listener_that_does_not_read_is_dropped(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_BEHIND", 10_000)
    world = World()
    stream = world.stream()
    await next_frames(stream)
    for _ in range(50):
        world.publish(0)
    assert [frames async for frames in stream] == []


async def test_a_listener_is_not_dropped_for_events_that_it_does_not_want(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_BEHIND", 10_000)
    world, mine = World(), Owner(type="user", id="mine")
    async with aclosing(world.stream(selection=Selection(owners=frozenset({mine})))) as stream:  # type: ignore[type-var]
        await next_frames(stream)
        for _ in range(3):
            for _ in range(50):
                world.publish(0)
            position = world.publish(1, owner=mine)
            assert offsets_of(await next_frames(stream)) == [position]


async def test_a_listener_behind_the_ring_is_dropped() -> None:
    world = World(max_bytes=10_000)
    position = world.publish(0)
    stream = world.stream(position)
    await next_frames(stream)
    for _ in range(50):
        world.publish(0)
    assert [frames async for frames in stream] == []


async def test_there_are_at_most_so_many_listeners() -> None:
    world = World(limit=2)
    streams = [world.stream() for _ in range(2)]
    for stream in streams:
        await next_frames(stream)
    with pytest.raises(TooManyListeners):
        world.listeners.check()
    world.listeners.close()
    assert [frames async for frames in streams[0]] == []


async def test_without_a_ring_there_are_no_streams() -> None:
    with pytest.raises(Unavailable):
        Listeners(1).check()


async def test_streams_end_with_their_ring_and_with_the_gateway() -> None:
    world = World()
    first, second = world.stream(), world.stream()
    await next_frames(first)
    world.listeners.open(Ring(1, (0, 0), max_bytes=1, max_age=1))
    assert [frames async for frames in first] == []
    await next_frames(second)
    world.listeners.close()
    assert [frames async for frames in second] == []


async def test_an_event_is_encoded_once_for_all_listeners() -> None:
    world = World()
    streams = [world.stream() for _ in range(3)]
    for stream in streams:
        await next_frames(stream)
    world.publish(0)
    frames = [await next_frames(stream) for stream in streams]
    assert frames[0].startswith(b"event: ")
    assert all(each is frames[0] for each in frames)
    world.listeners.close()
