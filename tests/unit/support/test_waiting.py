"""Limits do not count the time that the host of the machine took, and still end."""

import asyncio
import time
from types import SimpleNamespace

import psutil
import pytest

from tests.support.waiting import Stopwatch, within


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    """Seconds on the clock, and the stolen seconds of each CPU."""
    told = SimpleNamespace(now=100.0, stolen=[5.0, 7.0])
    monkeypatch.setattr(time, "monotonic", lambda: told.now)
    monkeypatch.setattr(psutil, "cpu_times", lambda percpu: [SimpleNamespace(steal=each) for each in told.stolen])
    return told


def test_stopwatch_counts_seconds(clock: SimpleNamespace) -> None:
    watch = Stopwatch()
    clock.now += 3
    assert watch.seconds() == 3


def test_stopwatch_leaves_out_the_largest_steal_of_a_cpu(clock: SimpleNamespace) -> None:
    watch = Stopwatch()
    clock.now += 10
    clock.stolen = [5.0 + 8, 7.0 + 1]
    assert watch.seconds() == 2


def test_stopwatch_counts_all_seconds_without_steal(monkeypatch: pytest.MonkeyPatch, clock: SimpleNamespace) -> None:
    monkeypatch.setattr(psutil, "cpu_times", lambda percpu: [SimpleNamespace(user=1.0)])
    watch = Stopwatch()
    clock.now += 10
    assert watch.seconds() == 10


async def test_within_ends_a_block_at_its_limit() -> None:
    with pytest.raises(TimeoutError):
        async with within(0.05):
            await asyncio.Event().wait()


async def test_within_leaves_a_block_that_is_in_time_alone() -> None:
    async with within(0.05):
        await asyncio.sleep(0)
    await asyncio.sleep(0.2)
