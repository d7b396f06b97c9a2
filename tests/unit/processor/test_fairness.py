"""Turns and slots: owners share the render processes in turn, within bounds on images and pixels."""

import asyncio

from processor.fairness import Slots, Turns


async def settle() -> None:
    for _ in range(10):
        await asyncio.sleep(0)


def test_turns_rotate_between_owners() -> None:
    turns: Turns[str] = Turns()
    for key, item in (("a", "a1"), ("a", "a2"), ("b", "b1"), ("a", "a3"), ("c", "c1")):
        turns.push(key, item)
    assert len(turns) == 5
    taken = []
    while turns:
        head = turns.peek()
        taken.append(turns.pop())
        assert taken[-1] == head
    assert taken == ["a1", "b1", "c1", "a2", "a3"]


async def test_slots_go_to_owners_in_turn() -> None:
    slots = Slots(1)
    order: list[str] = []

    async def use(owner: str, name: str) -> None:
        async with slots.hold(owner):
            order.append(name)
            await asyncio.sleep(0)

    names = [("hot", f"hot{n}") for n in range(5)] + [("cold", "cold0")]
    await asyncio.gather(*(use(owner, name) for owner, name in names))
    assert order == ["hot0", "hot1", "cold0", "hot2", "hot3", "hot4"]


class Decoding:
    """Slots, and pictures that are decoded in them until the test ends them."""

    def __init__(self, count: int, pixels: int) -> None:
        self.running: list[str] = []
        self.tasks: dict[str, asyncio.Task[None]] = {}
        self._slots = Slots(count, pixels)
        self._gates: dict[str, asyncio.Event] = {}

    async def start(self, name: str, pixels: int, owner: str = "a") -> None:
        gate = self._gates[name] = asyncio.Event()

        async def run() -> None:
            async with self._slots.hold(owner, pixels):
                self.running.append(name)
                await gate.wait()
                self.running.remove(name)

        self.tasks[name] = asyncio.create_task(run())
        await settle()

    async def end(self, name: str) -> None:
        self._gates[name].set()
        await settle()


async def test_slots_bound_the_pixels_together_and_a_larger_picture_runs_alone() -> None:
    decoding = Decoding(3, 100)
    for name, pixels in (("first", 60), ("second", 50), ("third", 10), ("huge", 500), ("last", 1)):
        await decoding.start(name, pixels)
    assert decoding.running == ["first"], "a later picture does not overtake"
    await decoding.end("first")
    assert decoding.running == ["second", "third"]
    await decoding.end("second")
    assert decoding.running == ["third"]
    await decoding.end("third")
    assert decoding.running == ["huge"]
    await decoding.end("huge")
    assert decoding.running == ["last"]


async def test_cancelled_waiter_for_many_pixels_blocks_no_other() -> None:
    decoding = Decoding(3, 100)
    for name, pixels in (("first", 60), ("large", 90), ("small", 10)):
        await decoding.start(name, pixels)
    assert decoding.running == ["first"]
    decoding.tasks["large"].cancel()
    await settle()
    assert decoding.running == ["first", "small"]


async def test_a_cancelled_waiter_loses_no_slot() -> None:
    slots = Slots(1)
    release = asyncio.Event()

    async def use() -> None:
        async with slots.hold("a"):
            await release.wait()

    holder, waiting, handed_over = (asyncio.create_task(use()) for _ in range(3))
    await settle()
    waiting.cancel()
    release.set()
    await holder
    # The slot was handed to the next in the same round in which that one is cancelled.
    handed_over.cancel()
    await asyncio.gather(waiting, handed_over, return_exceptions=True)
    async with asyncio.timeout(1), slots.hold("b"):
        pass
