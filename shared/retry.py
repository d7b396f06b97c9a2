"""Trying again: how long to pause between attempts, and for how long while an engine is unavailable (invariant 10)."""

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
    """Pauses between attempts: each is `factor` times the one before, from `first` to `longest` seconds."""

    def __init__(self, first: float, longest: float, factor: float = 2.0) -> None:
        self.failures = 0
        """How many pauses were taken since the start or the last reset."""
        self._first = first
        self._longest = longest
        self._factor = factor
        self._next = first

    def next_pause(self) -> float:
        """Seconds to wait after one more failure."""
        pause = self._next
        self.failures += 1
        # Step by step, not `first * factor**failures`: a float overflows after 1,024 doublings.
        self._next = min(self._next * self._factor, self._longest)
        return pause

    def reset(self) -> None:
        """Start over with the first pause."""
        self.failures = 0
        self._next = self._first


class RetryDeadline:
    """Growing pauses for a limited time after the first failure. Make one for each piece of work."""

    def __init__(self, limit: timedelta, clock: Callable[[], float] = time.monotonic) -> None:
        self._limit = limit.total_seconds()
        self._clock = clock
        self._deadline: float | None = None
        self._backoff = Backoff(FIRST_PAUSE_SECONDS, LONGEST_PAUSE_SECONDS)

    async def pause(self, error: Unavailable) -> None:
        """Wait before the next attempt; raises the error once the time is over."""
        now = self._clock()
        if self._deadline is None:
            self._deadline = now + self._limit
        if now >= self._deadline:
            raise error
        # Jitter: the pieces of work that one outage stopped do not all start again at the same moment.
        pause = self._backoff.next_pause() * random.uniform(0.5, 1)
        await asyncio.sleep(min(pause, self._deadline - now))


async def retry_unavailable(attempt: Callable[[], Awaitable[T]], limit: timedelta) -> T:
    """The result of the first attempt that meets no outage. Raises Unavailable `limit` after the first failure."""
    deadline = RetryDeadline(limit)
    while True:
        try:
            return await attempt()
        except Unavailable as error:
            await deadline.pause(error)
