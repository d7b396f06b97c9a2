"""Turns and slots: owners share the render processes in turn, within bounds on images and pixels."""

import asyncio
from random import Random

from hypothesis import given, settings
from hypothesis import strategies as st

from processor.fairness import SMALL_PIXELS, Admission, Budget, Slots, Started, Turns, kept_pixels


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
    slots = Slots(1, 100)
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
    """With one process nothing is kept for small pictures."""
    decoding = Decoding(1, 100)
    for name, pixels in (("huge", 500), ("last", 1)):
        await decoding.start(name, pixels)
    assert decoding.running == ["huge"], "a later picture does not overtake"
    await decoding.end("huge")
    assert decoding.running == ["last"]


async def test_large_pictures_share_three_quarters_of_the_pixels() -> None:
    decoding = Decoding(4, 100)
    for name, pixels in (("first", 45), ("second", 40), ("third", 30), ("huge", 500), ("last", 30)):
        await decoding.start(name, pixels)
    assert decoding.running == ["first"], "of the common 75 pixels 30 are left, and no other image overtakes the second"
    await decoding.end("first")
    assert decoding.running == ["second", "third"]
    await decoding.end("second")
    assert decoding.running == ["third"]
    await decoding.end("third")
    assert decoding.running == ["huge"]
    await decoding.end("huge")
    assert decoding.running == ["last"]


async def test_a_small_picture_does_not_wait_for_large_ones() -> None:
    decoding = Decoding(2, 100)
    for number in range(3):
        await decoding.start(f"huge{number}", 500, owner=f"owner{number}")
    await decoding.start("small", 25, owner="hot")
    await decoding.start("small too", 1, owner="hot")
    assert decoding.running == ["huge0", "small"]
    await decoding.end("small")
    assert decoding.running == ["huge0", "small too"]


async def test_small_pictures_use_every_slot_and_do_not_hold_up_a_large_one() -> None:
    decoding = Decoding(2, 100)
    for name, pixels in (("small0", 5), ("small1", 5), ("large", 60), ("small2", 5)):
        await decoding.start(name, pixels, owner=name)
    assert decoding.running == ["small0", "small1"]
    await decoding.end("small0")
    assert decoding.running == ["small1", "small2"], "it overtakes on the kept slot"
    await decoding.end("small1")
    assert decoding.running == ["small2", "large"]


async def test_cancelled_waiter_for_many_pixels_blocks_no_other() -> None:
    decoding = Decoding(3, 100)
    for name, pixels in (("first", 45), ("large", 90), ("medium", 30)):
        await decoding.start(name, pixels)
    assert decoding.running == ["first"]
    decoding.tasks["large"].cancel()
    await settle()
    assert decoding.running == ["first", "medium"]


async def test_a_cancelled_waiter_loses_no_slot() -> None:
    slots = Slots(1, 100)
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


PIXELS = 64_000_000
LARGEST = 100_000_000
ITEMS = st.lists(
    st.tuples(st.sampled_from("abc"), st.one_of(st.integers(0, SMALL_PIXELS), st.integers(0, LARGEST))), max_size=30
)


class Processes:
    """Admission to a number of render processes. It starts each image that may start."""

    def __init__(self, count: int, items: list[tuple[str, int]]) -> None:
        self.count, self.kept = count, kept_pixels(count, PIXELS)
        common = Budget(count - 1 if self.kept else count, PIXELS - self.kept)
        self._admission: Admission[int] = Admission(common, Budget(1, self.kept))
        self.items = items
        self.running: dict[int, Started[int]] = {}
        self.order: list[int] = []
        self.waiting: set[int] = set()

    def arrive(self, number: int) -> None:
        owner, pixels = self.items[number]
        self._admission.push(owner, number, pixels)
        self.waiting.add(number)
        self._start()

    def end(self, number: int) -> None:
        self._admission.end(self.running.pop(number))
        self._start()

    def _start(self) -> None:
        while started := self._admission.start():
            self.running[started.item] = started
            self.order.append(started.item)
            self.waiting.remove(started.item)

    def small(self, numbers: set[int]) -> set[int]:
        return {number for number in numbers if self.items[number][1] <= min(SMALL_PIXELS, self.kept)}


@settings(deadline=None)
@given(st.integers(1, 4), ITEMS, st.randoms(use_true_random=False))
def test_any_images_stay_within_the_budgets_and_none_waits_for_ever(
    count: int, items: list[tuple[str, int]], random: Random
) -> None:
    processes, arrivals = Processes(count, items), list(range(len(items)))
    while arrivals or processes.running:
        if arrivals and (not processes.running or random.random() < 0.6):
            processes.arrive(arrivals.pop(0))
        else:
            processes.end(random.choice(sorted(processes.running)))
        check_running(processes)
    assert sorted(processes.order) == list(range(len(items))), "all have run"


def check_running(processes: Processes) -> None:
    running = set(processes.running)
    sizes = [processes.items[number][1] for number in running]
    assert len(running) <= processes.count
    kept = {number for number in running if processes.running[number].budget.pixels == processes.kept}
    if processes.kept:
        assert len(kept) <= 1
        assert kept <= processes.small(running)
        assert not processes.small(processes.waiting) or kept, "the kept process is idle although a small image waits"
    common = [processes.items[number][1] for number in running - kept]
    assert len(common) <= 1 or sum(common) <= PIXELS - processes.kept
    assert sum(sizes) <= max([PIXELS, *(size + processes.kept for size in common)])
    assert common or not processes.waiting, "nothing runs in the common part although an image waits"


@settings(deadline=None)
@given(st.integers(2, 4), ITEMS, st.integers(0, SMALL_PIXELS))
def test_a_single_small_image_starts_at_once_beside_any_others(
    count: int, items: list[tuple[str, int]], pixels: int
) -> None:
    large = [(owner, SMALL_PIXELS + 1 + size) for owner, size in items]
    processes = Processes(count, [*large, ("other", pixels)])
    for number in range(len(processes.items)):
        processes.arrive(number)
    assert len(items) in processes.running


@settings(deadline=None)
@given(st.integers(2, 4), ITEMS, st.randoms(use_true_random=False))
def test_small_images_delay_no_large_one(count: int, items: list[tuple[str, int]], random: Random) -> None:
    """A large image that is next starts when the images that run in the common part at that time have ended."""
    processes = Processes(count, [*items, ("large", LARGEST), *(("hot", 1) for _ in range(20))])
    large = len(items)
    for number in range(large):
        processes.arrive(number)
        if processes.waiting:
            processes.end(random.choice(sorted(processes.running)))
    while processes.waiting:
        processes.end(random.choice(sorted(processes.running)))
    before = set(processes.running)
    for number in range(large, len(processes.items)):
        processes.arrive(number)
    for number in before:
        processes.end(number)
    assert large in processes.running
