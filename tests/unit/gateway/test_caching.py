"""The read cache: one load at a time, bounded age and size, and never a load from before a write."""

import asyncio
from datetime import timedelta

from gateway.services.caching import ReadCache
from shared.errors import Unavailable
from tests.support.clock import Clock


class Source:
    """A load that counts its calls and can be held up."""

    def __init__(self) -> None:
        self.calls = 0
        self.open = asyncio.Event()
        self.open.set()

    async def load(self) -> int:
        self.calls += 1
        mine = self.calls
        await self.open.wait()
        return mine


def cache(clock: Clock[float] | None = None, capacity: int = 10) -> ReadCache[str, int]:
    return ReadCache("test", timedelta(seconds=1), capacity, clock or Clock(100.0))


async def test_a_value_is_kept_for_its_time_and_no_longer() -> None:
    clock, source = Clock(100.0), Source()
    reads = cache(clock)
    assert await reads.get("a", source.load) == 1
    clock.now += 0.9
    assert await reads.get("a", source.load) == 1
    clock.now += 0.2
    assert await reads.get("a", source.load) == 2


async def test_its_age_counts_from_the_start_of_the_load() -> None:
    clock, source = Clock(100.0), Source()
    reads = cache(clock)
    source.open.clear()
    slow = asyncio.create_task(reads.get("a", source.load))
    await asyncio.sleep(0)
    clock.now += 1.1
    source.open.set()
    assert await slow == 1
    assert await reads.get("a", source.load) == 2


async def test_callers_of_one_key_share_a_load() -> None:
    source = Source()
    reads = cache()
    assert await asyncio.gather(*(reads.get("a", source.load) for _ in range(20))) == [1] * 20
    assert await reads.get("b", source.load) == 2


async def test_a_load_that_began_before_a_write_is_not_returned_after_it() -> None:
    source = Source()
    reads = cache()
    source.open.clear()
    before = asyncio.create_task(reads.get("a", source.load))
    await asyncio.sleep(0)
    reads.invalidate("a")
    after = asyncio.create_task(reads.get("a", source.load))
    await asyncio.sleep(0)
    source.open.set()
    assert await before == 1
    assert await after == 2
    assert await reads.get("a", source.load) == 2


async def test_invalidate_where_drops_only_the_matching_keys() -> None:
    source = Source()
    reads = cache()
    await reads.get("a", source.load)
    await reads.get("b", source.load)
    reads.invalidate_where(lambda key: key == "a")
    assert await reads.get("b", source.load) == 2
    assert await reads.get("a", source.load) == 3


async def test_invalidate_values_drops_matching_values_and_loads_in_progress() -> None:
    source = Source()
    reads = cache()
    assert [await reads.get(key, source.load) for key in "abc"] == [1, 2, 3]
    source.open.clear()
    running = asyncio.create_task(reads.get("d", source.load))
    failing = asyncio.create_task(reads.get("e", cancelled))
    await asyncio.sleep(0)
    reads.invalidate_values(lambda value: value == 2)
    source.open.set()
    assert await running == 4
    await asyncio.gather(failing, return_exceptions=True)
    assert [await reads.get(key, source.load) for key in "abcde"] == [1, 5, 3, 6, 7]


async def cancelled() -> int:
    raise asyncio.CancelledError


async def test_fresh_loads_anew_and_replaces_what_was_kept() -> None:
    source = Source()
    reads = cache()
    await reads.get("a", source.load)
    assert await reads.get("a", source.load, fresh=True) == 2
    assert await reads.get("a", source.load) == 2


async def test_a_caller_that_is_cancelled_while_it_waits_does_not_cancel_the_load() -> None:
    source = Source()
    reads = cache()
    source.open.clear()
    first, second, third = (asyncio.create_task(reads.get("a", source.load)) for _ in range(3))
    await asyncio.sleep(0)
    second.cancel()
    await asyncio.sleep(0)
    source.open.set()
    assert (await first, await third) == (1, 1)
    assert source.calls == 1


async def test_one_of_those_who_wait_loads_if_the_caller_that_loads_is_cancelled() -> None:
    source = Source()
    reads = cache()
    source.open.clear()
    first, second, third = (asyncio.create_task(reads.get("a", source.load)) for _ in range(3))
    await asyncio.sleep(0)
    first.cancel()
    await asyncio.gather(first, return_exceptions=True)
    source.open.set()
    assert (await second, await third) == (2, 2)
    assert await reads.get("a", source.load) == 2


async def test_a_failure_reaches_every_caller_and_is_not_kept() -> None:
    async def fail() -> int:
        await asyncio.sleep(0)
        raise Unavailable("cassandra", "unavailable")

    reads = cache()
    results = await asyncio.gather(reads.get("a", fail), reads.get("a", fail), return_exceptions=True)
    assert [type(result) for result in results] == [Unavailable, Unavailable]
    assert await reads.get("a", Source().load) == 1


async def test_weights_bound_what_is_kept() -> None:
    source = Source()
    reads = cache(capacity=10)
    for key in "abc":
        await reads.get(key, source.load, weight=4)
    assert await reads.get("c", source.load, weight=4) == 3
    assert await reads.get("a", source.load, weight=4) == 4


async def test_what_is_heavier_than_the_cache_is_loaded_but_not_kept() -> None:
    source = Source()
    reads = cache(capacity=10)
    assert [await reads.get("a", source.load, weight=11) for _ in range(2)] == [1, 2]


async def test_nothing_is_kept_with_a_time_of_zero() -> None:
    source = Source()
    reads: ReadCache[str, int] = ReadCache("test", timedelta(0), 10)
    assert [await reads.get("a", source.load) for _ in range(2)] == [1, 2]


async def test_the_number_of_keys_is_bounded() -> None:
    source = Source()
    reads = cache(capacity=10)
    for key in range(50):
        await reads.get(str(key), source.load)
    for key in range(40, 50):
        await reads.get(str(key), source.load)
    assert source.calls == 50
    await reads.get("39", source.load)
    assert source.calls == 51
