"""Limits of waiting, in seconds that were the machine's to use.

A virtual machine stands still while its host runs others; what it lost ("steal") says nothing of the software under
test. Where nobody tells of steal, these are ordinary seconds.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import TypeVar

import psutil

LOOK_AGAIN = 0.1

T = TypeVar("T")


class NotInTimeError(AssertionError):
    """What a test waited for did not happen."""


class Stopwatch:
    """Measures from its making, less what the CPU lost that lost most."""

    def __init__(self) -> None:
        self._began = time.monotonic()
        self._stolen = _stolen()

    def seconds(self) -> float:
        """Seconds until now."""
        stolen = max((now - then for now, then in zip(_stolen(), self._stolen, strict=False)), default=0.0)
        return max(0.0, time.monotonic() - self._began - stolen)


def _stolen() -> list[float]:
    """Seconds by CPU since the machine started."""
    return [getattr(times, "steal", 0.0) for times in psutil.cpu_times(percpu=True)]


@asynccontextmanager
async def within(seconds: float) -> AsyncIterator[None]:
    """As `asyncio.timeout`, by a `Stopwatch`. Raises TimeoutError."""
    watch = Stopwatch()

    async def end(limit: asyncio.Timeout) -> None:
        while (left := seconds - watch.seconds()) > 0:  # noqa: ASYNC110 - no event tells of stolen time
            await asyncio.sleep(max(left, LOOK_AGAIN))
        limit.reschedule(asyncio.get_running_loop().time())

    async with asyncio.timeout(None) as limit:
        watcher = asyncio.create_task(end(limit))
        try:
            yield
        finally:
            watcher.cancel()


def wait_for(look: Callable[[], T | None], timeout: float, what: str) -> T:
    """The first answer that is not None; NotInTimeError after `timeout` seconds."""
    watch = Stopwatch()
    while watch.seconds() < timeout:
        found = look()
        if found is not None:
            return found
        time.sleep(0.05)
    raise NotInTimeError(f"waited {timeout:.0f} s for: {what}")
