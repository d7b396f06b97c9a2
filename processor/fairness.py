"""Sharing what is scarce: owners are served round robin, whatever one of them has queued."""

import asyncio
import math
from collections import OrderedDict, deque
from collections.abc import AsyncIterator
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
