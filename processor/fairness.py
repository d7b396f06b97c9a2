"""Fair sharing: serves owners round robin, so that an owner with a long queue does not delay the others."""

import asyncio
import math
from collections import OrderedDict, deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Generic, TypeVar

T = TypeVar("T")


class Turns(Generic[T]):
    """Queues, one for each key, served round robin. A key with a thousand items delays another key by one item."""

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
        """The next item. Raises StopIteration if there is none."""
        return next(iter(self._queues.values()))[0]

    def pop(self) -> T:
        """Remove and return the next item. The next turn of its key comes after the turns of all other keys."""
        key, queue = self._queues.popitem(last=False)
        item = queue.popleft()
        if queue:
            self._queues[key] = queue
        self._length -= 1
        return item


@dataclass(frozen=True)
class _Turn:
    """A place in the queue for a slot. `granted` gets a result with the slot, and is cancelled with its waiter."""

    pixels: int
    granted: asyncio.Future[None]


class Slots:
    """A limited number of slots and pixels, given to owners in turn. A waiter uses only its place in the queue.

    As in `Lanes`, an image with more pixels than the limit runs alone, and no waiter overtakes the one whose turn it
    is. The holder of a slot must not wait for a second slot, because that could be a deadlock.
    """

    def __init__(self, count: int, pixels: float = math.inf) -> None:
        self._count = count
        self._pixels = pixels
        self._held = 0
        self._held_pixels = 0
        self._waiting: Turns[_Turn] = Turns()

    @asynccontextmanager
    async def hold(self, owner: str, pixels: int = 0) -> AsyncIterator[None]:
        """Hold a slot and this number of pixels during the block."""
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
                # The waiters behind this one may fit.
                self._grant()
            else:
                # The slot was given at the same moment. Release it, because it would otherwise be lost.
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
