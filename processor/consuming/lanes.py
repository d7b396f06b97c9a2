"""Which command runs next: in order per image, in turn per owner, within bounds (invariants 4 and 11)."""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from processor.fairness import Turns


@dataclass(frozen=True)
class Cost:
    """What a command holds while it runs: bytes of the original, pixels of one frame of it.

    How many frames there are nobody knows before the original is here: `Slots` counts them all.
    """

    bytes: int = 0
    pixels: int = 0


@dataclass(frozen=True)
class Bounds:
    """How much may run at once. `waiting` bounds what is read ahead (records only, no images)."""

    images: int
    bytes: int
    pixels: int
    waiting: int


@dataclass(frozen=True)
class Work:
    """A command to run. `run` returns when it may be settled; what it raises stops the lanes."""

    lane: str
    owner: str
    cost: Cost
    run: Callable[[], Awaitable[None]]


class Lanes:
    """Runs work: one at a time and in order per lane, lanes side by side, owners in turn, within bounds.

    - What waits in a lane behind another command holds no part of the bounds.
    - Work above a bound runs alone. Nobody overtakes the work whose turn it is, or a large image would wait for ever.
    - Work that raises leaves its record unsettled. Nothing is started after it, because a later command of the same
      image would run out of order; `on_failure` is told once, and the process is expected to stop (invariant 10).
    """

    def __init__(self, bounds: Bounds, on_failure: Callable[[BaseException], None]) -> None:
        self._bounds = bounds
        self._on_failure = on_failure
        self._lanes: dict[str, deque[Work]] = {}
        self._runnable: Turns[Work] = Turns()
        self._tasks: set[asyncio.Task[None]] = set()
        self._bytes = 0
        self._pixels = 0
        self._waiting = 0
        self._closed = False
        self._room = asyncio.Condition()

    @property
    def running(self) -> int:
        """How much work has started and not ended."""
        return len(self._tasks)

    @property
    def waiting(self) -> int:
        """How much work has not started."""
        return self._waiting

    @property
    def held(self) -> Cost:
        """What the running work holds together."""
        return Cost(self._bytes, self._pixels)

    async def submit(self, work: Work) -> bool:
        """Queue work, after waiting until there is room to. False, and nothing is queued, once closed."""
        async with self._room:
            await self._room.wait_for(lambda: self._closed or self._waiting < self._bounds.waiting)
        if self._closed:
            return False
        lane = self._lanes.setdefault(work.lane, deque())
        lane.append(work)
        self._waiting += 1
        if len(lane) == 1:
            self._runnable.push(work.owner, work)
        self._dispatch()
        return True

    async def close(self, drain_seconds: float) -> int:
        """Start nothing more, give what runs `drain_seconds` to end, cancel the rest; returns how many that were.

        What was cancelled or never started is not settled: its records come again.
        """
        await self._shut()
        if self._tasks and drain_seconds > 0:
            await asyncio.wait(self._tasks, timeout=drain_seconds)
        left = list(self._tasks)
        for task in left:
            task.cancel()
        await asyncio.gather(*left, return_exceptions=True)
        return len(left)

    async def _shut(self) -> None:
        self._closed = True
        async with self._room:
            self._room.notify_all()

    def _dispatch(self) -> None:
        while self._runnable and not self._closed and self._fits(self._runnable.peek().cost):
            work = self._runnable.pop()
            self._waiting -= 1
            self._bytes += work.cost.bytes
            self._pixels += work.cost.pixels
            task = asyncio.create_task(self._run(work))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    def _fits(self, cost: Cost) -> bool:
        return not self._tasks or (
            len(self._tasks) < self._bounds.images
            and self._bytes + cost.bytes <= self._bounds.bytes
            and self._pixels + cost.pixels <= self._bounds.pixels
        )

    async def _run(self, work: Work) -> None:
        try:
            await work.run()
        except Exception as error:
            # Whatever it is, it was not settled: the process stops and the record comes again.
            failed_first = not self._closed
            await self._shut()
            if failed_first:
                self._on_failure(error)
            return
        self._ended(work)
        async with self._room:
            self._room.notify()

    def _ended(self, work: Work) -> None:
        self._bytes -= work.cost.bytes
        self._pixels -= work.cost.pixels
        current = asyncio.current_task()
        if current is not None:
            self._tasks.discard(current)
        lane = self._lanes[work.lane]
        lane.popleft()
        if lane:
            self._runnable.push(lane[0].owner, lane[0])
        else:
            del self._lanes[work.lane]
        self._dispatch()
