"""Liveness of the processor: it is not alive when records wait and nothing is committed; and how long its end takes."""

import asyncio
from collections.abc import Callable, Mapping
from datetime import timedelta
from types import SimpleNamespace
from typing import Any

import pytest

from processor.consuming import agent
from processor.consuming.agent import Agent
from processor.service import Processor
from shared.consuming.record import ConsumedRecord
from shared.contract.encoding import encode
from shared.contract.events import OwnerCleared
from shared.observability.health import Progress
from shared.settings import Topic
from tests.support import records
from tests.support.clock import Clock
from tests.support.memory.gateway import memory_settings

LIMIT = timedelta(seconds=60)


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
        self.clock = Clock(0.0)
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
        """Accept this many commands that are settled at once."""
        for offset in range(count):
            value = encode(OwnerCleared(owner=records.OWNER))
            await self.processor._agent.accept(ConsumedRecord(Topic.COMMANDS, 0, offset, b"user:1", value, []))
            self.stream.end = offset + 1
        await asyncio.sleep(0.02)

    async def later(self) -> str | None:
        await self.processor._commit(measure=True)
        self.clock.now += 2 * LIMIT.total_seconds()
        await self.processor._commit(measure=True)
        return self.processor._progress.stalled()


async def test_processor_whose_parts_all_hang_ends_within_30_seconds(monkeypatch: pytest.MonkeyPatch) -> None:
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
    # A commit may be running, and the last one waits for it.
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


async def test_processor_that_commits_is_alive(monkeypatch: pytest.MonkeyPatch) -> None:
    bench = ProcessorBench(monkeypatch)
    await bench.take_fences(3)
    assert await bench.later() is None


@pytest.mark.parametrize("hurt", [commits_fail, rebalance_for_ever, measuring_hangs, nothing_is_read])
async def test_processor_that_does_not_commit_is_not_alive(hurt: Hurt, monkeypatch: pytest.MonkeyPatch) -> None:
    bench = ProcessorBench(monkeypatch)
    await bench.take_fences(3)
    hurt(bench)
    await bench.processor._commit(measure=True)
    assert await bench.later() is not None
