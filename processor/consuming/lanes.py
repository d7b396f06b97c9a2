"""Which command runs next: in order per image, in turn per owner, within bounds (invariants 4 and 11)."""

import asyncio
import math
from collections import OrderedDict, deque
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Generic, TypeVar

T = TypeVar("T")


class Turns(Generic[T]):
    """A queue per key, served round robin: one key's thousand items delay another key's first by one item."""

    def __init__(self) -> None:
        self._queues: OrderedDict[str, deque[T]] = OrderedDict()
        self._length = 0

    def __len__(self) -> int:
        return self._length

    def push(self, key: str, item: T) -> None:
        """Put an item at the end of its key's queue."""
        self._queues.setdefault(key, deque()).append(item)
        self._length += 1

    def peek(self) -> T:
        """The item whose turn it is. Raises StopIteration when there is none."""
        return next(iter(self._queues.values()))[0]

    def pop(self) -> T:
        """Take that item; its key's next turn comes after everyone else's."""
        key, queue = self._queues.popitem(last=False)
        item = queue.popleft()
        if queue:
            self._queues[key] = queue
        self._length -= 1
        return item


@dataclass(frozen=True)
class _Turn:
    """A place in the queue for a slot. `granted` is done when it is held, or nobody waits for it any more."""

    pixels: int
    granted: asyncio.Future[None]


class Slots:
    """A number of slots and of pixels, given to owners in turn. Who waits holds its place in memory, nothing else.

    What has more pixels than there are runs alone, and nobody overtakes whose turn it is, as in `Lanes`. Who holds a
    slot waits for no other one, so each is given back.
    """

    def __init__(self, count: int, pixels: float = math.inf) -> None:
        self._count = count
        self._pixels = pixels
        self._held = 0
        self._held_pixels = 0
        self._waiting: Turns[_Turn] = Turns()

    @asynccontextmanager
    async def hold(self, owner: str, pixels: int = 0) -> AsyncIterator[None]:
        """Hold a slot and so many pixels for the length of the block."""
        await self._acquire(owner, pixels)
        try:
            yield
        finally:
            self._release(pixels)

    async def _acquire(self, owner: str, pixels: int) -> None:
        turn = _Turn(pixels, asyncio.get_running_loop().create_future())
        self._waiting.push(owner, turn)
        self._grant()
        try:
            await turn.granted
        except asyncio.CancelledError:
            if turn.granted.cancelled():
                # Those behind it may fit.
                self._grant()
            else:
                # The slot was handed over in the same moment: pass it on, or it is lost for ever.
                self._release(pixels)
            raise

    def _release(self, pixels: int) -> None:
        self._held -= 1
        self._held_pixels -= pixels
        self._grant()

    def _grant(self) -> None:
        while self._waiting:
            turn = self._waiting.peek()
            if not turn.granted.done():
                if not self._fits(turn.pixels):
                    return
                self._held += 1
                self._held_pixels += turn.pixels
                turn.granted.set_result(None)
            self._waiting.pop()

    def _fits(self, pixels: int) -> bool:
        return not self._held or (self._held < self._count and self._held_pixels + pixels <= self._pixels)


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

    async def close(self, patience_seconds: float) -> int:
        """Start nothing more, let what runs end within the patience, cancel the rest; returns how many that were.

        What was cancelled or never started is not settled: its records come again.
        """
        await self._shut()
        if self._tasks and patience_seconds > 0:
            await asyncio.wait(self._tasks, timeout=patience_seconds)
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
