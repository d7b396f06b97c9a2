"""A cache of what was just read: short-lived, bounded, one load at a time for each key."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Hashable
from dataclasses import dataclass
from datetime import timedelta
from typing import Generic, TypeVar

from cachetools import TTLCache

from shared.observability.metrics import CACHE_READS

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")


@dataclass(frozen=True)
class _Load(Generic[V]):
    task: "asyncio.Task[V]"
    weight: int


class ReadCache(Generic[K, V]):
    """Values by key, each at most `ttl` old, counted from when its load began; `capacity` bounds the sum of weights.

    What is kept is the load itself, under way or done: callers of one key share it, and whoever comes after `forget`
    starts another, so a load that began before a write is never handed to those who come after it. A failed load is
    not kept.
    """

    def __init__(self, name: str, ttl: timedelta, capacity: int, clock: Callable[[], float] = time.monotonic) -> None:
        """`name` tells the caches apart in the metric `imagepipe_gateway_cache_reads_total`."""
        # Made now, so that a share of hits can be told before the first one.
        self._hits, self._misses = (CACHE_READS.labels(name, result) for result in ("hit", "miss"))
        self._loads: TTLCache[K, _Load[V]] = TTLCache(
            capacity, ttl.total_seconds(), timer=clock, getsizeof=lambda load: load.weight
        )

    async def get(self, key: K, load: Callable[[], Awaitable[V]], *, fresh: bool = False, weight: int = 1) -> V:
        """The value, loaded if there is none or if it must be `fresh`. Raises what the load raises."""
        kept = None if fresh else self._loads.get(key)
        (self._misses if kept is None else self._hits).inc()
        if kept is None:
            kept = self._start(key, load, weight)
        # A caller that hangs up must not take the load away from the others.
        return await asyncio.shield(kept.task)

    def _start(self, key: K, load: Callable[[], Awaitable[V]], weight: int) -> _Load[V]:
        async def run() -> V:
            return await load()

        started = _Load(asyncio.create_task(run()), weight)
        if weight <= self._loads.maxsize:
            self._loads[key] = started
        started.task.add_done_callback(lambda task: self._settle(key, task))
        return started

    def _settle(self, key: K, task: "asyncio.Task[V]") -> None:
        # Reading the exception also tells asyncio that it was seen, where every caller has hung up.
        failed = task.cancelled() or task.exception() is not None
        kept = self._loads.get(key)
        if failed and kept is not None and kept.task is task:
            del self._loads[key]

    def forget(self, key: K) -> None:
        """Load anew for whoever asks from now on."""
        self._loads.pop(key, None)

    def forget_where(self, matches: Callable[[K], bool]) -> None:
        """Forget every key that matches."""
        for key in [key for key in self._loads if matches(key)]:
            self.forget(key)
