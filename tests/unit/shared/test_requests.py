"""Rows are grouped to requests within the bounds that Cassandra sets for a batch."""

from hypothesis import given
from hypothesis import strategies as st

from shared.cassandra.requests import MAX_BYTES, MAX_ROWS, packed, steps
from shared.contract.keys import new_id
from shared.contract.logged_command import versioned
from shared.read_model.tables import command_writes
from tests.support import records

SIZES = st.lists(st.integers(0, 2 * MAX_BYTES), max_size=40)


@given(SIZES)
def test_every_row_is_in_one_request_in_order(sizes: list[int]) -> None:
    groups = list(packed((number, size) for number, size in enumerate(sizes)))
    assert [number for group in groups for number in group] == list(range(len(sizes)))
    for group in groups:
        assert 1 <= len(group) <= MAX_ROWS
        assert len(group) == 1 or sum(sizes[number] for number in group) <= MAX_BYTES


def test_small_rows_share_a_request() -> None:
    assert list(packed([("a", 100), ("b", 200), ("c", MAX_BYTES), ("d", 1)])) == [["a", "b"], ["c"], ["d"]]


def test_writes_to_one_row_stay_together() -> None:
    writes = command_writes(versioned(records.deleted(new_id()), 8), 4)
    assert [len(step) for step in steps([*writes, *writes])] == [2, 1]
    assert all(len(row) == 2 for step in steps([*writes, *writes]) for row in step)
