"""Chooses the next command: in order for each image, owners in turn, within bounds (invariants 4 and 11)."""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from processor.fairness import Admission, Budget, Started


@dataclass(frozen=True)
class Cost:
    """Resources of a running command: the bytes of its original, and the pixels of one frame.

    The number of frames is unknown before the original is downloaded. `Slots` counts the pixels of all frames later.
    """

    bytes: int = 0
    pixels: int = 0


@dataclass(frozen=True)
class Bounds:
    """Maximum of the running commands together. `waiting` is the maximum of records that are read ahead.

    `kept_pixels` of the pixels are kept for small images (see `Admission`).
    """

    images: int
    bytes: int
    pixels: int
    waiting: int
    kept_pixels: int = 0


@dataclass(frozen=True)
class Work:
    """A command to run. `run` returns when the command may be settled. If `run` raises an error, the lanes stop."""

    lane: str
    owner: str
    cost: Cost
    run: Callable[[], Awaitable[None]]


class Lanes:
    """Runs work within bounds: in order in each lane, with the lanes concurrent and the owners in turn.

    - Work that waits in a lane behind other work uses nothing of the bounds.
    - Work that exceeds a bound runs alone. Other work does not overtake the work whose turn it is, because a large
      image could then wait permanently.
    - Only small images are not held up by the pixels of others: a part of the pixels is kept for them.
    - If work raises an error, its record is not settled, and the lanes start no more work: a later command of the same
      image would run out of order. The lanes call `on_failure` once, and the process must stop (invariant 10).
    """

    def __init__(self, bounds: Bounds, on_failure: Callable[[BaseException], None]) -> None:
        self._bounds = bounds
        self._on_failure = on_failure
        self._lanes: dict[str, deque[Work]] = {}
        common = Budget(bounds.images, bounds.pixels - bounds.kept_pixels)
        self._runnable: Admission[Work] = Admission(common, Budget(bounds.images, bounds.kept_pixels))
        self._tasks: set[asyncio.Task[None]] = set()
        self._bytes = 0
        self._pixels = 0
        self._waiting = 0
        self._closed = False
        self._room = asyncio.Condition()

    @property
    def running(self) -> int:
        """Number of commands that are running."""
        return len(self._tasks)

    @property
    def waiting(self) -> int:
        """Number of commands that have not started."""
        return self._waiting

    @property
    def held(self) -> Cost:
        """Resources of all running commands together."""
        return Cost(self._bytes, self._pixels)

    async def submit(self, work: Work) -> bool:
        """Wait until there is room, then queue the work. Returns False and queues nothing if the lanes are closed."""
        async with self._room:
            await self._room.wait_for(lambda: self._closed or self._waiting < self._bounds.waiting)
        if self._closed:
            return False
        lane = self._lanes.setdefault(work.lane, deque())
        lane.append(work)
        self._waiting += 1
        if len(lane) == 1:
            self._push(work)
        self._dispatch()
        return True

    async def close(self, drain_seconds: float) -> int:
        """Start no more work, wait `drain_seconds` for running work, cancel the rest; returns the number cancelled.

        Work that was cancelled or not started is not settled, so its records will be read again.
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

    def _push(self, work: Work) -> None:
        self._runnable.push(work.owner, work, work.cost.pixels)

    def _dispatch(self) -> None:
        while not self._closed and (started := self._runnable.start(self._fits)):
            cost = started.item.cost
            self._waiting -= 1
            self._bytes += cost.bytes
            self._pixels += cost.pixels
            task = asyncio.create_task(self._run(started))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    def _fits(self, work: Work) -> bool:
        """Whether the work fits into the bounds that all images share. `Admission` bounds the pixels."""
        return not self._tasks or (
            len(self._tasks) < self._bounds.images and self._bytes + work.cost.bytes <= self._bounds.bytes
        )

    async def _run(self, started: Started[Work]) -> None:
        try:
            await started.item.run()
        except Exception as error:
            # After any error the record is not settled. The process stops, and the next one reads the record again.
            failed_first = not self._closed
            await self._shut()
            if failed_first:
                self._on_failure(error)
            return
        self._ended(started)
        async with self._room:
            self._room.notify()

    def _ended(self, started: Started[Work]) -> None:
        work = started.item
        self._runnable.end(started)
        self._bytes -= work.cost.bytes
        self._pixels -= work.cost.pixels
        current = asyncio.current_task()
        if current is not None:
            self._tasks.discard(current)
        lane = self._lanes[work.lane]
        lane.popleft()
        if lane:
            self._push(lane[0])
        else:
            del self._lanes[work.lane]
        self._dispatch()
