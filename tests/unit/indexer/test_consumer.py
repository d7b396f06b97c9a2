"""Readiness and liveness of the indexer: it is not alive when records wait and nothing is committed."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from datetime import timedelta
from types import SimpleNamespace
from typing import Any

import pytest
from aiokafka import TopicPartition

from indexer import consumer as indexer_consumer
from indexer.consumer import Consumer
from indexer.handler import Barrier
from shared.consuming.record import ConsumedRecord
from shared.errors import Unavailable
from shared.observability.health import Progress
from shared.settings import Topic
from tests.support.clock import Clock
from tests.support.waiting import wait_for_async

LIMIT = timedelta(seconds=60)
PLACE, OTHER = (TopicPartition("images.events", number) for number in range(2))


def records_of(place: TopicPartition, count: int) -> list[Any]:
    return [
        SimpleNamespace(partition=place.partition, offset=n, key=b"", value=b"", headers=(), timestamp=-1)
        for n in range(count)
    ]


class FakeClient:
    """As much of aiokafka's consumer as the indexer uses: records of a partition, and a broker that may not answer."""

    def __init__(self, count: int) -> None:
        self.records = {PLACE: records_of(PLACE, count)}
        self.end = count
        self.commits: list[Mapping[TopicPartition, int]] = []
        self.broker_answers = True

    async def start(self) -> None:
        """Nothing to connect to."""

    async def stop(self) -> None:
        """Nothing to leave."""

    def subscribe(self, topics: list[str], listener: Any) -> None:
        """The test assigns."""

    async def topics(self) -> set[str]:
        return {"images.events"}

    async def getmany(
        self, *places: TopicPartition, timeout_ms: int, max_records: int
    ) -> dict[TopicPartition, list[Any]]:
        assert places, "the client would return the records of all partitions"
        found = {place: self.records[place][:max_records] for place in places if self.records.get(place)}
        if not found:
            await asyncio.sleep(timeout_ms / 1000)
        for place, records in found.items():
            del self.records[place][: len(records)]
        return found

    def highwater(self, _place: TopicPartition) -> int:
        return self.end

    async def commit(self, offsets: Mapping[TopicPartition, int]) -> None:
        if not self.broker_answers:
            await asyncio.Event().wait()
        self.commits.append(offsets)


class IndexerBench:
    """A running indexer consumer over a fake client."""

    def __init__(self, count: int) -> None:
        self.clock = Clock(0.0)
        self.client = FakeClient(count)
        self.progress = Progress(LIMIT, self.clock)
        self.done = asyncio.Event()
        """Set when the records of PLACE may settle. Those of other partitions settle at once."""
        self.started: Counter[int] = Counter()
        topics = {"images.events": Topic.EVENTS}
        self.consumer = Consumer(self.client, topics, self._deliver, self.progress, timedelta(seconds=0.2))

    async def _deliver(self, record: ConsumedRecord, _lower_settled: Barrier) -> None:
        self.started[record.partition] += 1
        if record.partition == PLACE.partition:
            await self.done.wait()

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        stop = asyncio.Event()
        task = asyncio.create_task(self.consumer.run(stop))
        await asyncio.sleep(0.02)
        yield
        self.done.set()
        stop.set()
        await task

    async def later(self) -> str | None:
        """The reason of liveness after twice the limit, with a measurement of the backlog in between."""
        await asyncio.sleep(0.05)
        self.clock.now += 2 * LIMIT.total_seconds()
        await asyncio.sleep(0.05)
        return self.progress.stalled()


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(indexer_consumer, "COMMIT_SECONDS", 0.01)


async def test_indexer_that_settles_nothing_is_not_alive() -> None:
    bench = IndexerBench(3)
    async with bench.running():
        await bench.consumer.on_partitions_assigned([PLACE])
        assert await bench.later() == "3 records wait, and there was no progress for 120 s"


async def test_indexer_that_commits_is_alive() -> None:
    bench = IndexerBench(3)
    bench.done.set()
    async with bench.running():
        await bench.consumer.on_partitions_assigned([PLACE])
        assert await bench.later() is None
    assert bench.client.commits == [{PLACE: 3}]


async def test_a_full_window_delays_no_other_partition(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(indexer_consumer, "WINDOW", 20)
    monkeypatch.setattr(indexer_consumer, "BATCH", 10)
    monkeypatch.setattr(indexer_consumer, "FULL_SECONDS", 0.001)
    bench = IndexerBench(100)
    bench.client.records[OTHER] = records_of(OTHER, 50)
    async with bench.running():
        await bench.consumer.on_partitions_assigned([PLACE, OTHER])
        await wait_for_async(lambda: bench.started[OTHER.partition] == 50, 10, "the other partition", pause=0.001)
        assert bench.started[PLACE.partition] == 20
        bench.done.set()
        await wait_for_async(lambda: bench.started[PLACE.partition] == 100, 10, "the full partition", pause=0.001)


async def test_an_indexer_whose_windows_are_full_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(indexer_consumer, "WINDOW", 20)
    monkeypatch.setattr(indexer_consumer, "BATCH", 10)
    monkeypatch.setattr(indexer_consumer, "FULL_SECONDS", 0.001)
    bench = IndexerBench(100)
    async with bench.running():
        await bench.consumer.on_partitions_assigned([PLACE])
        await asyncio.sleep(0.05)
        assert bench.started[PLACE.partition] == 20
        bench.done.set()
        await wait_for_async(lambda: bench.started[PLACE.partition] == 100, 10, "the rest", pause=0.001)


async def test_partitions_that_are_assigned_after_the_stop_are_not_read() -> None:
    bench = IndexerBench(3)
    bench.done.set()
    async with bench.running():
        pass
    await bench.consumer.on_partitions_assigned([PLACE])
    await asyncio.sleep(0.05)
    assert not bench.started


async def test_indexer_whose_commits_hang_ends() -> None:
    bench = IndexerBench(3)
    bench.done.set()
    bench.client.broker_answers = False
    running = asyncio.create_task(bench.consumer.run(asyncio.Event()))
    await asyncio.sleep(0)
    await bench.consumer.on_partitions_assigned([PLACE])
    with pytest.raises(Unavailable, match=r"no commit within 0\.2 s"):
        await running


async def test_indexer_without_partitions_is_ready_and_alive() -> None:
    bench = IndexerBench(0)
    async with bench.running():
        with pytest.raises(Unavailable, match="not joined"):
            await bench.consumer.check()
        await bench.consumer.on_partitions_assigned([])
        await bench.consumer.check()
        assert await bench.later() is None


async def test_indexer_in_an_endless_rebalance_is_neither_ready_nor_alive() -> None:
    bench = IndexerBench(0)
    async with bench.running():
        await bench.consumer.on_partitions_assigned([PLACE])
        await bench.consumer.on_partitions_revoked([PLACE])
        with pytest.raises(Unavailable, match="not joined"):
            await bench.consumer.check()
        assert await bench.later() is not None
