"""Work on many things at once, within a bound."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any


async def in_parallel(items: Any, work: Callable[[Any], Awaitable[object]], at_once: int) -> None:
    """Run `work` on each item, at most `at_once` at a time; the first error ends it."""
    running: set[asyncio.Future[object]] = set()
    try:
        async for item in _iterate(items):
            running.add(asyncio.ensure_future(work(item)))
            if len(running) >= at_once:
                done, running = await asyncio.wait(running, return_when=asyncio.FIRST_COMPLETED)
                for task in done:
                    task.result()
        for task in list(running):
            await task
    finally:
        for task in running:
            task.cancel()


async def _iterate(items: Any) -> AsyncIterator[Any]:
    if hasattr(items, "__aiter__"):
        async for item in items:
            yield item
    else:
        for item in items:
            yield item
