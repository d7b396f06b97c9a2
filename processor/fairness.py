"""Fair sharing: serves owners round robin within budgets, and keeps a part for small images (invariants 4 and 11)."""

import asyncio
from collections import OrderedDict, deque
from collections.abc import AsyncIterator, Callable
from contextlib import ExitStack, asynccontextmanager
from dataclasses import dataclass
from typing import Generic, TypeVar

T = TypeVar("T")

SMALL_PIXELS = 12_000_000
"""Largest number of pixels of a small image: a photo of a usual phone."""


def kept_pixels(processes: int, pixels: int) -> int:
    """Pixels that are kept for small images: a quarter of all, or 0 if there is only one render process."""
    return pixels // 4 if processes > 1 else 0


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
        key, queue = next(iter(self._queues.items()))
        return self._take(key, queue[0])

    def pop_first(self, wanted: Callable[[T], bool]) -> T | None:
        """Remove and return the first item that is wanted, in the order of the turns; None if there is none."""
        for key, queue in self._queues.items():
            for item in queue:
                if wanted(item):
                    return self._take(key, item)
        return None

    def remove(self, key: str, item: T) -> None:
        """Remove an item without a turn of its key. Raises KeyError or ValueError if it is not queued."""
        queue = self._queues[key]
        queue.remove(item)
        self._length -= 1
        if not queue:
            del self._queues[key]

    def _take(self, key: str, item: T) -> T:
        self.remove(key, item)
        if key in self._queues:
            self._queues.move_to_end(key)
        return item


class Budget:
    """A number of images, and of their pixels together, that may be in progress. An image above it runs alone."""

    def __init__(self, images: int, pixels: int) -> None:
        self.images = images
        self.pixels = pixels
        self._held = 0
        self._held_pixels = 0

    def fits(self, pixels: int) -> bool:
        """Whether an image of this size may start now."""
        return not self._held or (self._held < self.images and self._held_pixels + pixels <= self.pixels)

    def hold(self, pixels: int) -> None:
        """Note that an image has started."""
        self._held += 1
        self._held_pixels += pixels

    def release(self, pixels: int) -> None:
        """Note that an image has ended."""
        self._held -= 1
        self._held_pixels -= pixels


@dataclass(frozen=True)
class Started(Generic[T]):
    """An item that has started, and the budget that it uses. Pass it to `Admission.end`."""

    item: T
    pixels: int
    budget: Budget


class Admission(Generic[T]):
    """Chooses which item starts next: owners in turn, within a common budget and one that is kept for small images.

    1. A small image uses the kept budget if there is room in it, and the common one otherwise. Other images use the
       common budget only.
    2. The item whose turn it is starts, or waits until there is room for it.
    3. While it waits for room in the common budget, small images may overtake it, in turn, within the kept budget. They
       take nothing that it waits for, so it does not wait longer.
    """

    def __init__(self, common: Budget, kept: Budget) -> None:
        """If `kept` has no pixels, nothing is kept for small images."""
        self._common = common
        self._kept = kept
        self._small_pixels = min(SMALL_PIXELS, kept.pixels) if kept.pixels else -1
        self._waiting: Turns[tuple[T, int]] = Turns()

    def __len__(self) -> int:
        """Number of items that wait."""
        return len(self._waiting)

    def push(self, owner: str, item: T, pixels: int) -> None:
        """Queue an item of an owner."""
        self._waiting.push(owner, (item, pixels))

    def remove(self, owner: str, item: T, pixels: int) -> None:
        """Remove an item that has not started. Raises KeyError or ValueError if it is not queued."""
        self._waiting.remove(owner, (item, pixels))

    def start(self, allowed: Callable[[T], bool] = lambda _: True) -> Started[T] | None:
        """Start the next item; None if it must wait. `allowed` says whether it fits into the bounds of the caller.

        No item overtakes one that is not allowed, because a large item could then wait permanently.
        """
        if not self._waiting or not allowed(self._waiting.peek()[0]):
            return None
        item, pixels = self._waiting.peek()
        budget = self._budget(pixels)
        if budget is not None:
            self._waiting.pop()
        else:
            overtaking = self._waiting.pop_first(lambda queued: self._fits_kept(queued[1]) and allowed(queued[0]))
            if overtaking is None:
                return None
            (item, pixels), budget = overtaking, self._kept
        budget.hold(pixels)
        return Started(item, pixels, budget)

    def end(self, started: Started[T]) -> None:
        """Note that an item has ended."""
        started.budget.release(started.pixels)

    def _budget(self, pixels: int) -> Budget | None:
        if self._fits_kept(pixels):
            return self._kept
        return self._common if self._common.fits(pixels) else None

    def _fits_kept(self, pixels: int) -> bool:
        return pixels <= self._small_pixels and self._kept.fits(pixels)


@dataclass(frozen=True)
class _Turn:
    """A place in the queue for a slot. `granted` gets a result with the slot, and is cancelled with its waiter."""

    granted: asyncio.Future[None]


class Slots:
    """A limited number of slots and pixels, given to owners in turn. A waiter uses only its place in the queue.

    With two or more slots one of them and a quarter of the pixels are kept for small images. Otherwise, and among the
    images that are not small, an image with more pixels than the limit runs alone. The holder of a slot must not wait
    for a second slot, because that could be a deadlock.
    """

    def __init__(self, count: int, pixels: int) -> None:
        kept = kept_pixels(count, pixels)
        common = Budget(count - 1 if kept else count, pixels - kept)
        self._pixels = pixels
        self._admission: Admission[_Turn] = Admission(common, Budget(1, kept))
        self._started: dict[_Turn, Started[_Turn]] = {}

    @asynccontextmanager
    async def hold(self, owner: str, pixels: int = 0) -> AsyncIterator[None]:
        """Hold a slot and this number of pixels during the block."""
        turn = _Turn(asyncio.get_running_loop().create_future())
        await self._acquire(owner, turn, pixels)
        try:
            yield
        finally:
            self._release(turn)

    def hold_idle(self, owner: str, pixels: int) -> ExitStack | None:
        """Hold a second slot for as many pixels again, if one is idle and no image waits; it ends with the stack.

        It never waits. None also if both together would exceed the limit of pixels.
        """
        if self._admission or 2 * pixels > self._pixels:
            return None
        turn = _Turn(asyncio.get_running_loop().create_future())
        self._admission.push(owner, turn, pixels)
        self._grant()
        if turn not in self._started:
            self._admission.remove(owner, turn, pixels)
            return None
        held = ExitStack()
        held.callback(self._release, turn)
        return held

    async def _acquire(self, owner: str, turn: _Turn, pixels: int) -> None:
        self._admission.push(owner, turn, pixels)
        self._grant()
        try:
            await turn.granted
        except asyncio.CancelledError:
            if turn in self._started:
                # The slot was given at the same moment. Release it, because it would otherwise be lost.
                self._release(turn)
            else:
                self._admission.remove(owner, turn, pixels)
                # The waiters behind this one may fit.
                self._grant()
            raise

    def _release(self, turn: _Turn) -> None:
        self._admission.end(self._started.pop(turn))
        self._grant()

    def _grant(self) -> None:
        while started := self._admission.start():
            self._started[started.item] = started
            if not started.item.granted.done():
                started.item.granted.set_result(None)
