"""Slices: partitions are read past any number of deletions, and the passed gaps are remembered."""

import time
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from random import Random
from uuid import UUID

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shared.cassandra.slices import PAGE, PASSING, Slices, cut_at
from shared.contract.keys import DayShard, Owner, Partition
from shared.errors import TooManyDeletions
from tests.support.records import id_at

USER = Owner(type="user", id="1")
NEVER = UUID(int=1)
NOON = datetime(2026, 11, 20, 12, 0, tzinfo=UTC)


def version_of(bound: UUID) -> int:
    return (bound.int >> 76) & 0xF


class Tombstones:
    """A partition whose reads fail once they pass more than 100 deleted ids."""

    def __init__(self, live: Sequence[UUID], deleted: Sequence[UUID]) -> None:
        self.passed = 0
        self.everything = sorted([*((i, True) for i in live), *((i, False) for i in deleted)], reverse=True)
        self.failures = 0

    async def read(self, below: UUID, above: UUID, most: int) -> list[UUID]:
        assert most <= PAGE
        # Cassandra orders by version first: a bound of another one would be no bound.
        assert {version_of(below), version_of(above)} <= {0, 7, 15}
        found: list[UUID] = []
        passed = 0
        for image_id, lives in self.everything:
            # Integers: the comparison of UUIDs took a third of this module's time.
            if not above.int < image_id.int < below.int:
                continue
            if lives:
                found.append(image_id)
                if len(found) == most:
                    break
                continue
            passed += 1
            self.passed += 1
            if passed > 100:
                self.failures += 1
                raise TooManyDeletions("cassandra", "tombstones")
        return found

    async def count(self, below: UUID, above: UUID) -> int:
        return len(await self.read(below, above, PAGE))


def burst(start: datetime, count: int, per_ms: int = 2) -> list[UUID]:
    return [id_at(start + timedelta(milliseconds=n // per_ms), n) for n in range(count)]


@pytest.mark.parametrize("partition", [USER, DayShard(NOON.date(), 0)])
async def test_deletions_are_passed_in_slices_which_are_remembered(partition: Partition) -> None:
    live = burst(NOON - timedelta(hours=2), 30, per_ms=1)
    deleted = burst(NOON - timedelta(hours=1), 900)
    table, slices = Tombstones(live, deleted), Slices()

    async def newest(limit: int, below: UUID | None = None) -> list[UUID]:
        return await slices.newest(partition, table.read, lambda i: i, below=below, above=None, limit=limit)

    assert await newest(20) == live[::-1][:20]
    assert 0 < table.failures < 60
    table.failures = 0
    assert await newest(20) == live[::-1][:20]
    assert await newest(20, below=live[10]) == live[:10][::-1]
    assert await slices.total(partition, table.count, below=None, above=None) == 30
    assert table.failures == 0


@pytest.mark.parametrize("partition", [USER, DayShard(NOON.date(), 0)])
async def test_gaps_are_skipped_for_a_while(partition: Partition, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shared.cassandra.slices.SLOW_SECONDS", 0)
    live = burst(NOON - timedelta(hours=2), 10, per_ms=1) + burst(NOON, 5, per_ms=1)
    table = Tombstones(live, burst(NOON - timedelta(hours=1), 900))
    slices = Slices(gap_memory=timedelta(minutes=1))
    expected = sorted(live, reverse=True)

    async def newest(limit: int, **bounds: UUID) -> list[UUID]:
        below, above = bounds.get("below"), bounds.get("above")
        return await slices.newest(partition, table.read, lambda i: i, below=below, above=above, limit=limit)

    assert await newest(20) == expected
    table.passed = 0
    for number in range(16):
        assert await newest(20, below=expected[number] if number < 15 else NEVER) == expected[number + 1 :]
        assert await newest(number + 1) == expected[: number + 1]
    assert await newest(20, above=expected[9]) == expected[:9]
    assert await slices.total(partition, table.count, below=None, above=None) == 15
    assert table.passed == 0

    # A new image is found at once; a late write for an old image is found when the gap is forgotten.
    new, late = id_at(datetime.now(UTC)), id_at(NOON - timedelta(minutes=59))
    table.everything = sorted([*table.everything, (new, True), (late, True)], reverse=True)
    assert await newest(20) == [new, *expected]
    slices.forget()
    assert await newest(20) == sorted([new, late, *live], reverse=True)


async def newest_of_user(slices: Slices, table: Tombstones) -> list[UUID]:
    return await slices.newest(USER, table.read, lambda i: i, below=None, above=None, limit=20)


async def test_gap_of_a_clock_that_is_ahead_hides_no_new_image(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shared.cassandra.slices.SLOW_SECONDS", 0)
    table, slices = Tombstones([], burst(NOON, 50)), Slices(gap_memory=timedelta(minutes=1))
    now = time.time()
    monkeypatch.setattr("shared.cassandra.slices.time.time", lambda: now + 3 * 365 * 86_400)
    assert await newest_of_user(slices, table) == []
    monkeypatch.undo()
    new = id_at(datetime.now(UTC))
    table.everything.insert(0, (new, True))
    assert await newest_of_user(slices, table) == [new]


async def test_row_that_is_written_into_a_gap_is_found_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shared.cassandra.slices.SLOW_SECONDS", 0)
    table, slices = Tombstones([], burst(NOON - timedelta(days=30), 50)), Slices(gap_memory=timedelta(minutes=1))
    assert await newest_of_user(slices, table) == []
    late = id_at(NOON - timedelta(days=30, hours=1))
    table.everything.append((late, True))
    assert await newest_of_user(slices, table) == []
    slices.written(late)
    assert await newest_of_user(slices, table) == [late]


@given(st.data())
@settings(max_examples=25, deadline=None)
async def test_gaps_change_no_result(data: st.DataObject) -> None:
    random = Random(data.draw(st.integers(0, 99)))
    spans = [burst(NOON - timedelta(minutes=random.randrange(3000)), random.randrange(1, 260)) for _ in range(4)]
    ids = sorted({image_id for span in spans for image_id in span})
    shares = [data.draw(st.sampled_from([0.0, 0.02, 0.5])) for _ in spans]
    live = sorted(
        {image_id for span, share in zip(spans, shares, strict=True) for image_id in span if random.random() < share}
    )
    table = Tombstones(live, sorted(set(ids) - set(live)))
    slices = Slices(gap_memory=timedelta(minutes=1))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("shared.cassandra.slices.SLOW_SECONDS", 0)
        for _ in range(8):
            below, above = data.draw(st.none() | st.sampled_from(ids)), data.draw(st.none() | st.sampled_from(ids))
            limit = data.draw(st.integers(1, 30))
            inside = [i for i in live if (below is None or i < below) and (above is None or i > above)]
            found = await slices.newest(USER, table.read, lambda i: i, below=below, above=above, limit=limit)
            assert found == sorted(inside, reverse=True)[:limit]
            assert await slices.total(USER, table.count, below=below, above=above) == len(inside)


@pytest.mark.parametrize("moment", [datetime(2100, 1, 1, tzinfo=UTC), datetime(1999, 1, 1, tzinfo=UTC)])
async def test_ids_from_a_wrong_clock_are_skipped_too(moment: datetime) -> None:
    table = Tombstones([id_at(moment - timedelta(days=1))], burst(moment, 500))
    found = await Slices().newest(USER, table.read, lambda i: i, below=None, above=None, limit=5)
    assert found == [id_at(moment - timedelta(days=1))]


async def test_too_many_deletions_in_one_millisecond_are_an_error() -> None:
    table = Tombstones([], burst(NOON, 300, per_ms=300))
    with pytest.raises(TooManyDeletions):
        await Slices().newest(USER, table.read, lambda i: i, below=None, above=None, limit=1)


async def test_more_rows_than_a_query_gives_are_read_in_several() -> None:
    live = burst(NOON, 2 * PAGE + 10)
    table = Tombstones(live, [])
    found = await Slices().newest(USER, table.read, lambda i: i, below=None, above=None, limit=2 * PAGE + 5)
    assert found == live[::-1][: 2 * PAGE + 5]


async def test_hundreds_of_ghosts_are_passed_in_a_few_queries() -> None:
    images, ghosts = burst(NOON, 3), burst(NOON + timedelta(seconds=1), 250)
    table, queries = Tombstones([*images, *ghosts], []), list[int]()

    async def read(below: UUID, above: UUID, most: int) -> list[UUID]:
        queries.append(most)
        return await table.read(below, above, most)

    async def newest(limit: int) -> list[UUID]:
        return await Slices().newest(
            USER, read, lambda i: i, below=None, above=None, limit=limit, counts=lambda i: i in images
        )

    assert await newest(2) == images[::-1][:2]
    assert queries == [2, PASSING, PASSING, PASSING]
    assert await newest(5) == images[::-1]


def test_a_cut_lies_between_the_ids_of_two_milliseconds() -> None:
    millis = int(NOON.timestamp() * 1000)
    assert id_at(NOON - timedelta(milliseconds=1), (1 << 62) - 1) < cut_at(millis) < id_at(NOON, 0)
