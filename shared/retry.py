"""Retries: the pauses between attempts, and the retry deadline while an engine is unavailable (invariant 10)."""

import asyncio
import random
import time
from collections.abc import Awaitable, Callable
from datetime import timedelta
from typing import TypeVar

from shared.errors import Unavailable

T = TypeVar("T")

FIRST_PAUSE_SECONDS = 0.1
LONGEST_PAUSE_SECONDS = 2.0


class Backoff:
    """Exponential backoff: each pause is `factor` times the previous one, from `first` to `longest` seconds."""

    def __init__(self, first: float, longest: float, factor: float = 2.0) -> None:
        self.failures = 0
        """Number of failures since the start or the last reset."""
        self._first = first
        self._longest = longest
        self._factor = factor
        self._next = first

    def next_pause(self) -> float:
        """Seconds to wait after one more failure."""
        pause = self._next
        self.failures += 1
        # The pause is multiplied step by step, because `first * factor**failures` overflows after 1,024 doublings.
        self._next = min(self._next * self._factor, self._longest)
        return pause

    def reset(self) -> None:
        """Begin again with the first pause."""
        self.failures = 0
        self._next = self._first


class RetryDeadline:
    """Growing pauses until a deadline, which is `limit` after the first failure. Create one for each piece of work."""

    def __init__(self, limit: timedelta, clock: Callable[[], float] = time.monotonic) -> None:
        self._limit = limit.total_seconds()
        self._clock = clock
        self._deadline: float | None = None
        self._backoff = Backoff(FIRST_PAUSE_SECONDS, LONGEST_PAUSE_SECONDS)

    async def pause(self, error: Unavailable) -> None:
        """Wait before the next attempt. After the deadline it raises the error instead."""
        now = self._clock()
        if self._deadline is None:
            self._deadline = now + self._limit
        if now >= self._deadline:
            raise error
        # Random jitter, so that not all work that one outage stopped is retried at the same moment.
        pause = self._backoff.next_pause() * random.uniform(0.5, 1)
        await asyncio.sleep(min(pause, self._deadline - now))


async def retry_unavailable(attempt: Callable[[], Awaitable[T]], limit: timedelta) -> T:
    """Retry `attempt` while it raises Unavailable; returns its result.

    Raises Unavailable if it still fails `limit` after the first failure.
    """
    deadline = RetryDeadline(limit)
    while True:
        try:
            return await attempt()
        except Unavailable as error:
            await deadline.pause(error)
