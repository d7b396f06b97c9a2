"""Rows are grouped to requests within the bounds that Cassandra sets for a batch."""

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from shared.cassandra.requests import (
    MAX_BYTES,
    MAX_BYTES_OF_PARTITIONS,
    MAX_PARTITIONS,
    MAX_ROWS,
    Backlog,
    partition_of,
    steps,
)
from shared.contract.keys import new_id
from shared.contract.logged_command import versioned
from shared.read_model.tables import BY_DAY, BY_OWNER, IMAGES, command_writes
from tests.support import records

ROWS = st.lists(st.tuples(st.integers(0, 12), st.integers(0, 2 * MAX_BYTES_OF_PARTITIONS)), max_size=80)


@given(ROWS)
def test_every_row_is_in_one_request_within_the_bounds(rows: list[tuple[int, int]]) -> None:
    backlog: Backlog[int] = Backlog()
    for number, (partition, size) in enumerate(rows):
        backlog.add(("table", partition), number, size)
    requests = list(iter(backlog.take, []))
    assert Counter(number for request in requests for number in request) == Counter(range(len(rows)))
    for request in requests:
        partitions = {rows[number][0] for number in request}
        total = sum(rows[number][1] for number in request)
        assert len(request) <= MAX_ROWS
        assert len(partitions) <= MAX_PARTITIONS
        assert len(request) == 1 or total <= (MAX_BYTES if len(partitions) == 1 else MAX_BYTES_OF_PARTITIONS)
    for partition in {partition for partition, _ in rows}:
        own = [number for request in requests for number in request if rows[number][0] == partition]
        assert own == sorted(own)


def requests_of(*rows: tuple[str, int, int]) -> list[list[str]]:
    """Requests of rows, each with its name, its partition and its size."""
    backlog: Backlog[str] = Backlog()
    for name, partition, size in rows:
        backlog.add(("table", partition), name, size)
    return list(iter(backlog.take, []))


def test_large_rows_of_one_partition_share_a_request_and_others_do_not() -> None:
    assert requests_of(("a", 1, 3000), ("b", 2, 3000), ("c", 1, 3000)) == [["a", "c"], ["b"]]


def test_small_rows_of_several_partitions_share_a_request() -> None:
    rows = [("a", 1, 100), ("b", 2, 200), ("c", 3, MAX_BYTES_OF_PARTITIONS), ("d", 4, 1), ("e", 1, 1)]
    assert requests_of(*rows) == [["a", "e", "b"], ["c"], ["d"]]


def test_a_partition_with_many_rows_does_not_delay_the_next_one() -> None:
    many = [(f"a{number}", 1, 1) for number in range(3 * MAX_ROWS)]
    assert requests_of(*many, ("b", 2, 1))[1][0] == "b"


def test_writes_to_one_row_stay_together() -> None:
    writes = command_writes(versioned(records.deleted(new_id()), 8), 4)
    assert [len(step) for step in steps([*writes, *writes])] == [2, 1]
    assert all(len(row) == 2 for step in steps([*writes, *writes]) for row in step)


def test_images_of_an_owner_and_of_a_shard_share_a_partition() -> None:
    found: dict[str, set[tuple[object, ...]]] = {}
    for _ in range(40):
        for step in steps(command_writes(versioned(records.uploaded(new_id()), 8), 4)):
            for row in step:
                found.setdefault(row[0].table, set()).add(partition_of(row))
    assert {table: len(found[table]) for table in (IMAGES, BY_OWNER, BY_DAY)} == {IMAGES: 40, BY_OWNER: 1, BY_DAY: 4}
