"""Bounded concurrency: order, bound, and what an error does to the rest."""

import asyncio
from collections.abc import AsyncIterator, Iterator

import pytest

from shared.concurrency import for_each, map_ordered


async def test_results_are_in_the_order_of_the_items() -> None:
    async def work(number: int) -> int:
        await asyncio.sleep(0.01 * (5 - number))
        return number * 10

    assert await map_ordered(range(6), work, 3) == [0, 10, 20, 30, 40, 50]
    assert await map_ordered([], work, 3) == []


async def test_the_bound_is_held_and_used() -> None:
    running, most = 0, 0

    async def work(_: int) -> None:
        nonlocal running, most
        running += 1
        most = max(most, running)
        await asyncio.sleep(0.001)
        running -= 1

    await for_each(range(40), work, 4)
    assert (running, most) == (0, 4)


async def test_a_large_source_is_read_as_there_is_room_for_its_items() -> None:
    own = len(asyncio.all_tasks())
    taken = done = most_ahead = most_tasks = 0

    def source() -> Iterator[int]:
        nonlocal taken, most_ahead, most_tasks
        for number in range(20_000):
            taken += 1
            most_ahead = max(most_ahead, taken - done)
            most_tasks = max(most_tasks, len(asyncio.all_tasks()) - own)
            yield number

    async def work(_: int) -> None:
        nonlocal done
        await asyncio.sleep(0)
        done += 1

    await for_each(source(), work, 8)
    assert (taken, done) == (20_000, 20_000)
    assert most_tasks <= 8
    assert most_ahead <= 9


async def test_items_may_come_from_an_async_iterator() -> None:
    found: list[int] = []

    async def source() -> AsyncIterator[int]:
        for number in range(5):
            await asyncio.sleep(0)
            yield number

    async def work(number: int) -> None:
        found.append(number)

    await for_each(source(), work, 2)
    assert sorted(found) == [0, 1, 2, 3, 4]


async def test_the_first_error_cancels_the_rest_and_is_raised_once_they_have_ended() -> None:
    started: list[int] = []
    ended: list[int] = []

    async def work(number: int) -> None:
        started.append(number)
        if number == 2:
            raise LookupError("the third")
        try:
            await asyncio.sleep(60)
        finally:
            await asyncio.sleep(0.01)
            ended.append(number)

    with pytest.raises(LookupError, match="the third"):
        await for_each(range(100), work, 3)
    assert started == [0, 1, 2]
    assert sorted(ended) == [0, 1]


async def test_an_error_of_the_source_cancels_the_work() -> None:
    cancelled: list[int] = []

    async def source() -> AsyncIterator[int]:
        yield 1
        await asyncio.sleep(0.01)
        raise ConnectionError("no further page")

    async def work(number: int) -> None:
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            cancelled.append(number)
            raise

    with pytest.raises(ConnectionError, match="no further page"):
        await for_each(source(), work, 4)
    assert cancelled == [1]


async def test_cancelling_the_caller_cancels_the_work() -> None:
    cancelled: list[int] = []

    async def work(number: int) -> None:
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            cancelled.append(number)
            raise

    task = asyncio.create_task(for_each(range(10), work, 2))
    await asyncio.sleep(0.01)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert sorted(cancelled) == [0, 1]
