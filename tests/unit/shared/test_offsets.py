"""No offset is committable before every lower one that was started is settled."""

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.consuming.offsets import ContiguousOffsets


def started(*offsets: int) -> ContiguousOffsets:
    found = ContiguousOffsets()
    for offset in offsets:
        found.start(offset)
    return found


def test_position_moves_only_when_the_lowest_settles() -> None:
    offsets = started(5, 6, 7)
    assert (offsets.pending, offsets.lowest) == (3, 5)
    assert offsets.settle(7) is None
    assert offsets.settle(6) is None
    assert (offsets.pending, offsets.lowest) == (3, 5)
    assert offsets.settle(5) == 8
    assert (offsets.pending, offsets.lowest) == (0, None)


def test_position_passes_gaps_of_the_log() -> None:
    offsets = started(3, 10, 11)
    assert offsets.settle(3) == 4
    assert offsets.settle(10) == 11


def test_offset_below_an_earlier_one_is_refused() -> None:
    with pytest.raises(ValueError, match="started after"):
        started(5, 5)
    with pytest.raises(ValueError, match="started after"):
        started(5, 4)


@pytest.mark.parametrize("offset", [4, 5, 7, 100])
def test_offset_that_is_not_in_progress_cannot_settle(offset: int) -> None:
    offsets = started(5, 6, 8)
    offsets.settle(5)
    with pytest.raises(ValueError, match="not in progress"):
        offsets.settle(offset)


@given(st.lists(st.integers(0, 1000), min_size=1, max_size=60, unique=True).map(sorted), st.randoms())
def test_position_is_right_for_any_order_of_settling(offsets: list[int], rng: random.Random) -> None:
    tracked = started(*offsets)
    order = offsets[:]
    rng.shuffle(order)
    open_offsets = set(offsets)
    position = None
    for offset in order:
        moved = tracked.settle(offset)
        open_offsets.discard(offset)
        position = moved if moved is not None else position
        # Everything below the position is settled, and the highest settled one below the first open one is in it.
        done = [other for other in offsets if other < min(open_offsets, default=10**6)]
        assert position == (done[-1] + 1 if done else None)
        assert tracked.lowest == min(open_offsets, default=None)
    assert tracked.pending == 0
