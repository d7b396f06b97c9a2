"""Speculative retry: sends a request again if the first attempt is slow, because the node that got it may hang."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import TypeVar

T = TypeVar("T")


async def with_speculative_retry(ask: Callable[[], Awaitable[T]], *, pause: float, attempts: int) -> T:
    """The result or the error of the call that ends first.

    `ask` is called again each time that no call has ended for `pause` seconds, at most `attempts` times in all. It must
    be idempotent. The calls that are still running when one ends are cancelled.
    """
    asked: set[asyncio.Future[T]] = set()
    try:
        while True:
            asked.add(asyncio.ensure_future(ask()))
            more = len(asked) < attempts
            ended, _ = await asyncio.wait(asked, timeout=pause if more else None, return_when=asyncio.FIRST_COMPLETED)
            if ended:
                # If several calls end at the same time, a result is preferred to an error.
                return min(ended, key=lambda each: each.exception() is not None).result()
    finally:
        for each in asked:
            each.cancel()
