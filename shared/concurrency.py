"""Bounded concurrency: runs the same work on many items, on a limited number of items at a time."""

import asyncio
from collections.abc import AsyncIterable, AsyncIterator, Awaitable, Callable, Iterable
from typing import TypeVar

T = TypeVar("T")
R = TypeVar("R")


async def for_each(items: Iterable[T] | AsyncIterable[T], work: Callable[[T], Awaitable[object]], at_once: int) -> None:
    """Run `work` on each item, on at most `at_once` at a time.

    `items` is read lazily, so it may be larger than memory: there are at most `at_once` tasks and one waiting item.
    The first error, of the work or of `items`, cancels the running tasks and is raised when they have ended. A blocking
    call in a thread cannot be cancelled: it may still run to its end.
    """
    places = asyncio.Semaphore(at_once)

    async def run(item: T) -> None:
        try:
            await work(item)
        finally:
            places.release()

    try:
        async with asyncio.TaskGroup() as group:
            async for item in _iterate(items):
                await places.acquire()
                group.create_task(run(item))
    except BaseExceptionGroup as errors:
        # Callers handle the first error by its type. An exception group would hide that type.
        raise errors.exceptions[0] from None


async def map_ordered(items: Iterable[T], work: Callable[[T], Awaitable[R]], at_once: int) -> list[R]:
    """Run `work` on each item like `for_each`; returns the results in the order of the items."""
    results: dict[int, R] = {}

    async def keep(numbered: tuple[int, T]) -> None:
        number, item = numbered
        results[number] = await work(item)

    await for_each(enumerate(items), keep, at_once)
    return [results[number] for number in range(len(results))]


async def _iterate(items: Iterable[T] | AsyncIterable[T]) -> AsyncIterator[T]:
    if isinstance(items, AsyncIterable):
        async for item in items:
            yield item
    else:
        for item in items:
            yield item
