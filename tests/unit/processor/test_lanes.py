"""Lanes run the work of one image in order and that of different images concurrently, within bounds."""

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from processor.consuming.lanes import Bounds, Cost, Lanes, Work

ROOMY = Bounds(images=4, bytes=1000, pixels=1000, waiting=100)


def unexpected(error: BaseException) -> None:
    raise AssertionError("no work was to fail") from error


class Bench:
    """Lanes with work that ends when the test ends it."""

    def __init__(self, bounds: Bounds = ROOMY, on_failure: Callable[[BaseException], None] = unexpected) -> None:
        self.lanes = Lanes(bounds, on_failure)
        self.started: list[str] = []
        self.ended: list[str] = []
        self._gates: dict[str, asyncio.Event] = {}

    def work(self, name: str, lane: str = "", owner: str = "a", cost: Cost = Cost()) -> Work:  # noqa: B008 - frozen
        gate = self._gates[name] = asyncio.Event()

        async def run() -> None:
            self.started.append(name)
            await gate.wait()
            self.ended.append(name)

        return Work(lane or name, owner, cost, run)

    async def submit(self, name: str, lane: str = "", owner: str = "a", cost: Cost = Cost()) -> bool:  # noqa: B008
        accepted = await self.lanes.submit(self.work(name, lane, owner, cost))
        await settle()
        return accepted

    async def end(self, name: str) -> None:
        self._gates[name].set()
        await settle()


async def settle() -> None:
    for _ in range(10):
        await asyncio.sleep(0)


async def test_one_lane_runs_in_order_one_at_a_time() -> None:
    bench = Bench()
    for name in ("first", "second", "third"):
        await bench.submit(name, lane="image")
    assert bench.started == ["first"]
    await bench.end("first")
    assert bench.started == ["first", "second"]
    await bench.end("second")
    await bench.end("third")
    assert bench.ended == ["first", "second", "third"]


async def test_lanes_run_side_by_side_up_to_the_bound() -> None:
    bench = Bench()
    for number in range(6):
        await bench.submit(f"w{number}")
    assert bench.started == ["w0", "w1", "w2", "w3"]
    assert (bench.lanes.running, bench.lanes.waiting) == (4, 2)
    await bench.end("w2")
    assert bench.started[-1] == "w4"


async def test_work_that_waits_in_its_lane_takes_no_place() -> None:
    bench = Bench()
    for number in range(10):
        await bench.submit(f"hot{number}", lane="hot")
    for number in range(3):
        await bench.submit(f"other{number}")
    assert bench.started == ["hot0", "other0", "other1", "other2"]


@pytest.mark.parametrize("bound", ["bytes", "pixels"])
async def test_bytes_and_pixels_are_bounded(bound: str) -> None:
    bench = Bench()
    for number in range(3):
        await bench.submit(f"w{number}", cost=Cost(**{bound: 400}))
    assert bench.started == ["w0", "w1"]
    await bench.end("w0")
    assert bench.started == ["w0", "w1", "w2"]


async def test_work_above_a_bound_runs_alone_and_is_not_overtaken() -> None:
    bench = Bench()
    await bench.submit("small")
    await bench.submit("huge", cost=Cost(pixels=5000))
    await bench.submit("late", owner="b")
    # `late` belongs to another owner and may run before `huge`, but must not block it permanently.
    await bench.submit("later", owner="b")
    assert "huge" not in bench.started
    before_huge = list(bench.started)
    for name in before_huge:
        await bench.end(name)
    assert bench.started[len(before_huge)] == "huge"
    assert bench.lanes.running == 1
    await bench.end("huge")
    assert set(bench.started) == {"small", "huge", "late", "later"}


async def test_small_work_does_not_wait_for_pixels_that_large_work_holds() -> None:
    bench = Bench(Bounds(images=9, bytes=1000, pixels=1000, waiting=100, kept_pixels=250))
    await bench.submit("huge", cost=Cost(pixels=5000))
    await bench.submit("huge too", cost=Cost(pixels=5000), owner="b")
    for name in ("small0", "small1", "small2"):
        await bench.submit(name, cost=Cost(pixels=100))
    assert bench.started == ["huge", "small0", "small1"]
    await bench.end("small0")
    assert bench.started[-1] == "small2"
    await bench.end("huge")
    assert bench.started[-1] == "huge too"


async def test_small_work_does_not_overtake_work_that_waits_for_bytes() -> None:
    bench = Bench(Bounds(images=9, bytes=1000, pixels=1000, waiting=100, kept_pixels=250))
    await bench.submit("first", cost=Cost(bytes=600))
    await bench.submit("large", cost=Cost(bytes=600, pixels=900))
    await bench.submit("small", cost=Cost(bytes=1, pixels=1), owner="b")
    assert bench.started == ["first"]
    await bench.end("first")
    assert bench.started == ["first", "large", "small"]


async def test_a_hot_owner_delays_another_owners_first_by_one() -> None:
    bench = Bench(Bounds(images=1, bytes=1000, pixels=1000, waiting=100))
    for number in range(50):
        await bench.submit(f"hot{number}", owner="hot")
    await bench.submit("cold", owner="cold")
    await bench.end("hot0")
    await bench.end("hot1")
    assert bench.started == ["hot0", "hot1", "cold"]


async def test_submit_waits_while_there_is_no_room() -> None:
    bench = Bench(Bounds(images=1, bytes=1000, pixels=1000, waiting=2))
    for number in range(3):
        await bench.submit(f"w{number}")
    blocked = asyncio.create_task(bench.submit("w3"))
    await settle()
    assert not blocked.done()
    await bench.end("w0")
    assert await blocked


async def test_close_waits_for_running_work_and_drops_the_rest() -> None:
    bench = Bench(Bounds(images=1, bytes=1000, pixels=1000, waiting=1))
    await bench.submit("running")
    await bench.submit("waiting")
    blocked = asyncio.create_task(bench.submit("blocked"))
    await settle()
    closing = asyncio.create_task(bench.lanes.close(5))
    await settle()
    assert await blocked is False
    assert await bench.submit("late") is False
    await bench.end("running")
    assert await closing == 0
    assert bench.ended == ["running"]
    assert bench.started == ["running"]


async def test_close_cancels_work_at_its_deadline() -> None:
    bench = Bench()
    await bench.submit("stuck")
    assert await bench.lanes.close(0.01) == 1
    assert bench.ended == []
    assert bench.lanes.running == 0


async def test_nothing_starts_after_work_that_failed() -> None:
    failures: list[BaseException] = []
    bench = Bench(on_failure=failures.append)

    async def fail() -> None:
        raise RuntimeError("engine away")

    await bench.lanes.submit(Work("image", "a", Cost(), fail))
    await bench.lanes.submit(bench.work("next command", lane="image"))
    await settle()
    assert [str(error) for error in failures] == ["engine away"]
    assert bench.started == [], "the next command of the image would run out of order"
    assert await bench.submit("another") is False


@settings(max_examples=30, deadline=None)
@given(
    st.lists(st.tuples(st.integers(0, 4), st.integers(0, 600), st.integers(0, 600)), max_size=40),
    st.integers(0, 999).map(Random),
)
def test_any_work_ends_in_order_and_within_bounds(items: list[tuple[int, int, int]], random: Random) -> None:
    asyncio.run(_any_work(items, random))


async def _any_work(items: list[tuple[int, int, int]], random: Random) -> None:
    bounds = Bounds(images=3, bytes=1000, pixels=1000, waiting=10)
    lanes = Lanes(bounds, unexpected)
    running: dict[int, tuple[int, int, int]] = {}
    order: list[int] = []

    def work(number: int) -> Callable[[], Awaitable[None]]:
        async def run() -> None:
            running[number] = items[number]
            order.append(number)
            if len(running) > 1:
                assert len(running) <= bounds.images
                assert sum(item[1] for item in running.values()) <= bounds.bytes
                assert sum(item[2] for item in running.values()) <= bounds.pixels
            assert max(Counter(item[0] for item in running.values()).values()) == 1
            for _ in range(random.randrange(4)):
                await asyncio.sleep(0)
            del running[number]

        return run

    for number, (lane, size, pixels) in enumerate(items):
        assert await lanes.submit(Work(str(lane), str(lane % 2), Cost(size, pixels), work(number)))
    async with asyncio.timeout(5):
        while lanes.waiting:  # noqa: ASYNC110 - lanes send no event
            await asyncio.sleep(0)
        assert await lanes.close(5) == 0
    for lane in range(5):
        mine = [number for number in order if items[number][0] == lane]
        assert mine == sorted(mine)
    assert len(order) == len(items)
