"""Liveness of the processor: it is not alive when records wait and nothing is committed."""

import asyncio
from collections.abc import Callable, Mapping
from datetime import timedelta

import pytest

from processor.consuming.agent import Agent
from processor.consuming.committer import Committer
from processor.consuming.delivery import Delivery
from processor.consuming.lanes import Bounds
from processor.handler import Handler
from processor.rendering.render import Rendering
from shared.consuming.record import ConsumedRecord
from shared.contract.encoding import encode
from shared.contract.events import OwnerCleared
from shared.contract.keys import Owner
from shared.contract.ladder import Ladder
from shared.observability.health import Progress
from shared.settings import Topic
from tests.support import records
from tests.support.clock import Clock
from tests.support.delivery import policy_of
from tests.support.memory.ports import MemoryDeadLetters, MemoryEventLog, MemoryStore
from tests.support.waiting import wait_for_async

LIMIT = timedelta(seconds=60)
FENCES = 3


class FakePartitions:
    """One partition, whose end the test sets."""

    def __init__(self) -> None:
        self.joined = True
        self.end = 0
        self.measuring_hangs = False

    async def measure(self, agent: Agent) -> int:
        if self.measuring_hangs:
            await asyncio.Event().wait()
        return max(0, self.end - (agent.restart(0) or 0))


async def _no_render(owner: Owner, data: bytes, ladder: Ladder) -> Rendering:
    raise AssertionError("nothing is rendered here")


class Bench:
    """A real agent and its committer, whose loop the test drives."""

    def __init__(self) -> None:
        self.clock = Clock(0.0)
        self.partitions = FakePartitions()
        self.commits_work = True
        self.progress = Progress(LIMIT, self.clock)
        handler = Handler(MemoryStore(), _no_render, MemoryEventLog(), records.BASE)
        self.agent = Agent(
            Delivery(handler, policy_of(MemoryDeadLetters())),
            Bounds(images=4, bytes=10**9, pixels=10**9, waiting=4),
            epoch=1,
            commit=self._commit,
            on_failure=self._fail,
        )
        self.committer = Committer(
            self.agent, self.partitions, self.progress, measure_timeout=timedelta(milliseconds=20)
        )

    async def _commit(self, _positions: Mapping[int, int]) -> bool:
        return self.commits_work

    def _fail(self, error: BaseException) -> None:
        raise error

    async def settle_fences(self) -> None:
        """Accept commands that are settled at once."""
        for offset in range(FENCES):
            value = encode(OwnerCleared(owner=records.OWNER))
            await self.agent.accept(ConsumedRecord(Topic.COMMANDS, 0, offset, b"user:1", value, []))
        self.partitions.end = FENCES
        # One position is left to commit.
        await wait_for_async(lambda: self.agent.pending == 1, 10, "all fences are settled", pause=0.001)

    async def commit_and_measure(self) -> None:
        await self.committer.commit()
        await self.committer.measure()

    async def later(self) -> str | None:
        """Why the processor is not alive, if so, after a time with nothing new."""
        await self.commit_and_measure()
        self.clock.now += 2 * LIMIT.total_seconds()
        await self.commit_and_measure()
        return self.progress.stalled()


Hurt = Callable[[Bench], None]


def commits_fail(bench: Bench) -> None:
    bench.commits_work = False


def rebalance_for_ever(bench: Bench) -> None:
    bench.partitions.joined = False


def measuring_hangs(bench: Bench) -> None:
    bench.partitions.measuring_hangs = True
    bench.commits_work = False


def nothing_is_read(bench: Bench) -> None:
    bench.partitions.end = 100


async def test_processor_that_commits_is_alive() -> None:
    bench = Bench()
    await bench.settle_fences()
    assert await bench.later() is None


@pytest.mark.parametrize("hurt", [commits_fail, rebalance_for_ever, measuring_hangs, nothing_is_read])
async def test_processor_that_does_not_commit_is_not_alive(hurt: Hurt) -> None:
    bench = Bench()
    await bench.settle_fences()
    hurt(bench)
    await bench.commit_and_measure()
    assert await bench.later() is not None
