"""A short-lived, bounded cache of reads, with one load at a time per key."""

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


@dataclass(frozen=True, eq=False, slots=True)
class _Load(Generic[V]):
    """A load that is in progress or done. It ends with _AbandonedError if the caller that made it was cancelled."""

    value: "asyncio.Future[V]"
    weight: int

    @property
    def has_value(self) -> bool:
        """Whether it is done and has not failed."""
        return self.value.done() and self.value.exception() is None


class _AbandonedError(Exception):
    """The caller that made the load was cancelled. One of those that wait for it begins another."""


class ReadCache(Generic[K, V]):
    """Values by key. A value is at most `ttl` old, measured from the start of its load. `capacity` bounds the weights.

    The cache holds the load itself, running or done, so callers of one key share it. The first caller after
    `invalidate` starts another load: no caller gets a value whose load began before the write that invalidated it. The
    cache drops a load that fails.
    """

    def __init__(self, name: str, ttl: timedelta, capacity: int, clock: Callable[[], float] = time.monotonic) -> None:
        """`name` is the label of this cache in the metric `imagepipe_gateway_cache_reads_total`."""
        # Both series exist from the start, so that a hit ratio can be computed before the first hit.
        self._hits, self._misses = (CACHE_READS.labels(name, result) for result in ("hit", "miss"))
        self._loads: TTLCache[K, _Load[V]] = TTLCache(
            capacity, ttl.total_seconds(), timer=clock, getsizeof=lambda load: load.weight
        )

    async def get(self, key: K, load: Callable[[], Awaitable[V]], *, fresh: bool = False, weight: int = 1) -> V:
        """The value; loaded if the cache has none, or if it must be `fresh`. Raises what the load raises."""
        kept = None if fresh else self._kept(key)
        (self._misses if kept is None else self._hits).inc()
        while kept is not None:
            try:
                # A caller that is cancelled while it waits must not cancel the load.
                return kept.value.result() if kept.value.done() else await asyncio.shield(kept.value)
            except _AbandonedError:
                kept = self._kept(key)
        return await self._run(key, load, weight)

    def _kept(self, key: K) -> _Load[V] | None:
        # `TTLCache.get` would compare the time twice: it asks whether the key is there, and then for its value.
        try:
            return self._loads[key]
        except KeyError:
            return None

    async def _run(self, key: K, load: Callable[[], Awaitable[V]], weight: int) -> V:
        """Load the value. The caller itself does it: a task for it would take longer than all else here."""
        started: _Load[V] = _Load(asyncio.get_running_loop().create_future(), weight)
        if weight <= self._loads.maxsize:
            self._loads[key] = started
        try:
            value = await load()
        except BaseException as error:
            started.value.set_exception(error if isinstance(error, Exception) else _AbandonedError())
            # If no caller waits for it, asyncio would log the exception as never retrieved. Reading it prevents that.
            started.value.exception()
            if self._loads.get(key) is started:
                self.invalidate(key)
            raise
        started.value.set_result(value)
        return value

    def __contains__(self, key: K) -> bool:
        """Whether there is a value of the key, or a load in progress."""
        return key in self._loads

    def holds(self, matches: Callable[[K], bool]) -> bool:
        """Whether there is a value, or a load in progress, of a key that matches."""
        return any(map(matches, list(self._loads)))

    def invalidate(self, key: K) -> None:
        """Drop the value; the next `get` loads it again."""
        self._loads.pop(key, None)

    def invalidate_values(self, matches: Callable[[V], bool]) -> None:
        """Drop the values that match, and every load in progress, because its value may match too."""
        for key in list(self._loads):
            load = self._loads.get(key)
            if load is not None and not (load.has_value and not matches(load.value.result())):
                self.invalidate(key)

    def invalidate_where(self, matches: Callable[[K], bool]) -> None:
        """Drop the values of all keys that match."""
        for key in [key for key in self._loads if matches(key)]:
            self.invalidate(key)
