"""Acks: which positions of a partition may be committed."""

from itertools import permutations

import pytest

from processor.consuming.acks import Acks, OffsetsMissing


def test_nothing_is_committable_above_an_unsettled_record() -> None:
    for order in permutations(range(5, 9)):
        acks = Acks()
        for offset in range(5, 9):
            assert acks.start(0, offset)
        settled: set[int] = set()
        for offset in order:
            acks.settle(0, offset)
            settled.add(offset)
            lowest = next((o for o in range(5, 9) if o not in settled), 9)
            assert acks.committable() == ({0: lowest} if lowest > 5 else {})


def test_partitions_are_independent() -> None:
    acks = Acks()
    acks.start(0, 1)
    acks.start(1, 7)
    acks.settle(1, 7)
    assert acks.committable() == {1: 8}


def test_restart_reads_from_the_committed_position() -> None:
    acks = Acks()
    assert acks.restart(0) is None
    acks.start(0, 7)
    acks.settle(0, 7)
    assert acks.restart(0) == 7
    acks.committed({0: 8})
    assert acks.restart(0) == 8


def test_committed_position_is_not_committed_again() -> None:
    acks = Acks()
    acks.start(0, 0)
    acks.start(0, 1)
    acks.settle(0, 0)
    acks.committed(acks.committable())
    assert acks.committable() == {}
    assert acks.pending == 1
    acks.settle(0, 1)
    assert acks.committable() == {0: 2}
    assert acks.pending == 1, "the record is settled, but its position is not committed yet"
    acks.committed({0: 2})
    assert acks.pending == 0


def test_record_read_again_is_not_started_again() -> None:
    acks = Acks()
    assert acks.start(0, 3)
    assert acks.start(0, 4)
    assert not acks.start(0, 3)
    assert not acks.start(0, 4)
    assert acks.start(0, 5)
    assert acks.pending == 3


@pytest.mark.parametrize("offset", [2, 6])
def test_jump_within_an_assignment_is_refused(offset: int) -> None:
    acks = Acks()
    acks.start(0, 3)
    acks.start(0, 4)
    with pytest.raises(OffsetsMissing):
        acks.start(0, offset)


def test_settling_a_record_that_is_not_in_progress_is_refused() -> None:
    acks = Acks()
    acks.start(0, 3)
    acks.settle(0, 3)
    with pytest.raises(ValueError, match="not in progress"):
        acks.settle(0, 3)
