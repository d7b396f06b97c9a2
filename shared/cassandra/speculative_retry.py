"""Asks again before the first answer has failed to come, so that one node that hangs holds nobody up."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import TypeVar

T = TypeVar("T")


async def hedged(ask: Callable[[], Awaitable[T]], *, pause: float, attempts: int) -> T:
    """The first answer, or what the first to end raised.

    `ask` is called again each time nothing has ended for `pause` seconds, until it was called `attempts` times; what it
    does may then be done as often. Whatever has not ended when one does is cancelled.
    """
    asked: set[asyncio.Future[T]] = set()
    try:
        while True:
            asked.add(asyncio.ensure_future(ask()))
            more = len(asked) < attempts
            ended, _ = await asyncio.wait(asked, timeout=pause if more else None, return_when=asyncio.FIRST_COMPLETED)
            if ended:
                # Of those that end together an answer counts more.
                return min(ended, key=lambda each: each.exception() is not None).result()
    finally:
        for each in asked:
            each.cancel()
