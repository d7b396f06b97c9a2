"""How long to keep trying while an engine is away (invariant 10)."""

import asyncio
import random
import time
from collections.abc import Callable
from datetime import timedelta

from shared.errors import Unavailable

FIRST_PAUSE_SECONDS = 0.1
LONGEST_PAUSE_SECONDS = 2.0


class Patience:
    """Growing pauses for a limited time after the first failure. Make one for each piece of work."""

    def __init__(self, limit: timedelta, clock: Callable[[], float] = time.monotonic) -> None:
        self._limit = limit.total_seconds()
        self._clock = clock
        self._deadline: float | None = None
        self._pause = FIRST_PAUSE_SECONDS

    async def pause(self, error: Unavailable) -> None:
        """Wait before the next attempt; raises the error once the time is over."""
        now = self._clock()
        if self._deadline is None:
            self._deadline = now + self._limit
        if now >= self._deadline:
            raise error
        # Jitter: the work that one outage stopped does not all come back at the same moment.
        await asyncio.sleep(min(self._pause * random.uniform(0.5, 1), self._deadline - now))
        self._pause = min(self._pause * 2, LONGEST_PAUSE_SECONDS)
