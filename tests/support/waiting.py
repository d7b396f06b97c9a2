"""Waits for a condition, with limits in seconds that the machine had for itself.

A virtual machine stands still while its host runs others. The time that it lost ("steal") says nothing about the
software under test, and does not count here. Where the system does not report steal, these are ordinary seconds.
"""

import asyncio
import inspect
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import TypeVar, cast, overload

import psutil

POLL_SECONDS = 0.05

T = TypeVar("T")


class NotInTimeError(AssertionError):
    """The condition that a test waited for did not become true."""


class Stopwatch:
    """Measures the time since it was made, less the time that the CPU with the most steal has lost."""

    def __init__(self) -> None:
        self._began = time.monotonic()
        self._stolen = _stolen()

    def seconds(self) -> float:
        """Seconds until now."""
        stolen = max((now - then for now, then in zip(_stolen(), self._stolen, strict=False)), default=0.0)
        return max(0.0, time.monotonic() - self._began - stolen)


def _stolen() -> list[float]:
    """Stolen seconds of each CPU since the machine started."""
    return [getattr(times, "steal", 0.0) for times in psutil.cpu_times(percpu=True)]


@asynccontextmanager
async def within(seconds: float) -> AsyncIterator[None]:
    """As `asyncio.timeout`, by a `Stopwatch`. Raises TimeoutError."""
    watch = Stopwatch()

    async def end(limit: asyncio.Timeout) -> None:
        while (left := seconds - watch.seconds()) > 0:  # noqa: ASYNC110 - the system sends no event for stolen time
            await asyncio.sleep(max(left, POLL_SECONDS))
        limit.reschedule(asyncio.get_running_loop().time())

    async with asyncio.timeout(None) as limit:
        watcher = asyncio.create_task(end(limit))
        try:
            yield
        finally:
            watcher.cancel()


def wait_for(look: Callable[[], T | None], seconds: float, what: str, *, pause: float = POLL_SECONDS) -> T:
    """The first true result of `look`. Raises NotInTimeError, which names `what`, after this many seconds."""
    watch = Stopwatch()
    while watch.seconds() < seconds:
        if found := look():
            return found
        time.sleep(pause)
    raise _not_in_time(seconds, what)


@overload
async def wait_for_async(
    look: Callable[[], Awaitable[T | None]], seconds: float, what: str, *, pause: float = ...
) -> T: ...
@overload
async def wait_for_async(look: Callable[[], T | None], seconds: float, what: str, *, pause: float = ...) -> T: ...
async def wait_for_async(
    look: Callable[[], Awaitable[T | None] | T | None], seconds: float, what: str, *, pause: float = POLL_SECONDS
) -> T:
    """As `wait_for`, while the event loop runs. `look` may be a coroutine function; the limit ends it, too."""
    try:
        async with within(seconds):
            while True:
                found = look()
                if inspect.isawaitable(found):
                    found = await found
                if found:
                    return cast(T, found)
                await asyncio.sleep(pause)
    except TimeoutError:
        raise _not_in_time(seconds, what) from None


def _not_in_time(seconds: float, what: str) -> NotInTimeError:
    return NotInTimeError(f"waited {seconds:g} s for: {what}")
