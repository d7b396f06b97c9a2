"""Liveness of the two consumers: it fails when work waits and nothing is committed, whatever the reason is."""

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from datetime import timedelta
from types import SimpleNamespace
from typing import Any

import pytest
from aiokafka import TopicPartition

from indexer import consumer as indexer_consumer
from indexer.consumer import Consumer
from indexer.handler import Barrier, ConsumedRecord
from processor.consuming import agent
from processor.consuming.agent import Agent
from processor.consuming.delivery import Received
from processor.service import Processor
from shared.contract.encoding import encode
from shared.contract.events import OwnerCleared
from shared.errors import Unavailable
from shared.observability.health import Progress
from shared.settings import Topic
from tests.support import records
from tests.support.memory.gateway import memory_settings

LIMIT = timedelta(seconds=60)
PLACE = TopicPartition("images.events", 0)


class Clock:
    """A monotonic clock that a test moves."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


class FakeClient:
    """As much of aiokafka's consumer as the indexer uses: one partition, and a broker that may not answer."""

    def __init__(self, count: int) -> None:
        self.records = [
            SimpleNamespace(partition=0, offset=n, key=b"", value=b"", headers=(), timestamp=-1) for n in range(count)
        ]
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

    async def getmany(self, *_places: TopicPartition, **_limits: int) -> dict[TopicPartition, list[Any]]:
        if not self.records:
            await asyncio.Event().wait()
        batch, self.records = self.records, []
        return {PLACE: batch}

    def highwater(self, _place: TopicPartition) -> int:
        return self.end

    async def commit(self, offsets: Mapping[TopicPartition, int]) -> None:
        if not self.broker_answers:
            await asyncio.Event().wait()
        self.commits.append(offsets)


class IndexerBench:
    """A running indexer consumer over a fake client."""

    def __init__(self, count: int) -> None:
        self.clock = Clock()
        self.client = FakeClient(count)
        self.progress = Progress(LIMIT, self.clock)
        self.done = asyncio.Event()
        topics = {"images.events": Topic.EVENTS}
        self.consumer = Consumer(self.client, topics, self._deliver, self.progress, timedelta(seconds=0.2))

    async def _deliver(self, _record: ConsumedRecord, _lower_settled: Barrier) -> None:
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
        """What liveness says after the limit has passed twice, with a look at the backlog in between."""
        await asyncio.sleep(0.05)
        self.clock.now += 2 * LIMIT.total_seconds()
        await asyncio.sleep(0.05)
        return self.progress.stalled()


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(indexer_consumer, "COMMIT_SECONDS", 0.01)


async def test_an_indexer_that_settles_nothing_is_not_alive() -> None:
    bench = IndexerBench(3)
    async with bench.running():
        await bench.consumer.on_partitions_assigned([PLACE])
        assert await bench.later() == "3 records wait and nothing advanced for 120 s"


async def test_an_indexer_that_commits_is_alive() -> None:
    bench = IndexerBench(3)
    bench.done.set()
    async with bench.running():
        await bench.consumer.on_partitions_assigned([PLACE])
        assert await bench.later() is None
    assert bench.client.commits == [{PLACE: 3}]


async def test_an_indexer_whose_commits_hang_ends() -> None:
    bench = IndexerBench(3)
    bench.done.set()
    bench.client.broker_answers = False
    running = asyncio.create_task(bench.consumer.run(asyncio.Event()))
    await asyncio.sleep(0)
    await bench.consumer.on_partitions_assigned([PLACE])
    with pytest.raises(Unavailable, match=r"no commit within 0\.2 s"):
        await running


async def test_an_indexer_too_many_is_ready_and_alive_without_partitions() -> None:
    bench = IndexerBench(0)
    async with bench.running():
        with pytest.raises(Unavailable, match="not joined"):
            await bench.consumer.check()
        await bench.consumer.on_partitions_assigned([])
        await bench.consumer.check()
        assert await bench.later() is None


async def test_an_indexer_in_an_endless_rebalance_is_neither() -> None:
    bench = IndexerBench(0)
    async with bench.running():
        await bench.consumer.on_partitions_assigned([PLACE])
        await bench.consumer.on_partitions_revoked([PLACE])
        with pytest.raises(Unavailable, match="not joined"):
            await bench.consumer.check()
        assert await bench.later() is not None


class FakeStream:
    """As much of the Faust side as the processor's loop uses."""

    def __init__(self) -> None:
        self.joined = True
        self.end = 0
        self.measuring_hangs = False

    async def measure(self, agent: Agent) -> int:
        if self.measuring_hangs:
            await asyncio.Event().wait()
        return max(0, self.end - (agent.restart(0) or 0))


class ProcessorBench:
    """A processor that is not connected to anything, with its loop driven by hand."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.clock = Clock()
        self.stream = FakeStream()
        self.commits_work = True
        self.processor = Processor(memory_settings())
        monkeypatch.setattr("processor.service.MEASURE_TIMEOUT_SECONDS", 0.02)
        monkeypatch.setattr(self.processor, "_progress", Progress(LIMIT, self.clock))
        monkeypatch.setattr(self.processor, "_stream", self.stream)
        monkeypatch.setattr(self.processor._agent, "_commit_positions", self._commit)

    async def _commit(self, _positions: Mapping[int, int]) -> bool:
        return self.commits_work

    async def take_fences(self, count: int) -> None:
        """Commands that are settled at once."""
        for offset in range(count):
            value = encode(OwnerCleared(owner=records.OWNER))
            await self.processor._agent.accept(Received(0, offset, b"user:1", value, []))
            self.stream.end = offset + 1
        await asyncio.sleep(0.02)

    async def later(self) -> str | None:
        await self.processor._commit(measure=True)
        self.clock.now += 2 * LIMIT.total_seconds()
        await self.processor._commit(measure=True)
        return self.processor._progress.stalled()


async def test_a_processor_whose_parts_all_hang_ends_within_30_seconds(monkeypatch: pytest.MonkeyPatch) -> None:
    """Orchestrators kill after 30 s. The waits are added up here, and shortened."""
    bench, waits, wait = ProcessorBench(monkeypatch), list[float](), asyncio.wait
    processor, commit_seconds = bench.processor, agent.COMMIT_TIMEOUT_SECONDS

    async def hang(*_: object) -> None:
        await asyncio.Event().wait()

    async def shortened(tasks: Any, **options: Any) -> Any:
        waits.append(options["timeout"])
        return await wait(tasks, timeout=0.01)

    monkeypatch.setattr(processor._agent._delivery, "deliver", hang)
    monkeypatch.setattr(processor._agent, "_commit_positions", hang)
    monkeypatch.setattr(agent, "COMMIT_TIMEOUT_SECONDS", 0.01)
    for part, stop in (("_app", "stop"), ("_pool", "close"), ("_producer", "close"), ("_server", "stop")):
        monkeypatch.setattr(processor, part, SimpleNamespace(**{stop: hang}))
    await bench.take_fences(2)
    monkeypatch.setattr(asyncio, "wait", shortened)
    await processor._stop(asyncio.create_task(hang()))
    # A commit may be under way, and the last one waits for it.
    assert sum(waits) + 2 * commit_seconds < 30
    assert len(waits) == 5, "lanes, Faust, pool, producer and server"


Hurt = Callable[[ProcessorBench], None]


def commits_fail(bench: ProcessorBench) -> None:
    bench.commits_work = False


def rebalance_for_ever(bench: ProcessorBench) -> None:
    bench.stream.joined = False


def measuring_hangs(bench: ProcessorBench) -> None:
    bench.stream.measuring_hangs = True
    bench.commits_work = False


def nothing_is_read(bench: ProcessorBench) -> None:
    bench.commits_work = True
    bench.stream.end = 100


async def test_a_processor_that_commits_is_alive(monkeypatch: pytest.MonkeyPatch) -> None:
    bench = ProcessorBench(monkeypatch)
    await bench.take_fences(3)
    assert await bench.later() is None


@pytest.mark.parametrize("hurt", [commits_fail, rebalance_for_ever, measuring_hangs, nothing_is_read])
async def test_a_processor_that_does_not_is_not(hurt: Hurt, monkeypatch: pytest.MonkeyPatch) -> None:
    bench = ProcessorBench(monkeypatch)
    await bench.take_fences(3)
    hurt(bench)
    await bench.processor._commit(measure=True)
    assert await bench.later() is not None
