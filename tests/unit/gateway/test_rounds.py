"""Listeners are woken in rounds: at once after a quiet time, and together while a round and its pause last."""

import asyncio
import time

from gateway.events.rounds import LONGEST_PAUSE, Rounds
from tests.support.waiting import wait_for_async

SECONDS = 10
WORK_SECONDS = 0.03


class Sleeper:
    """A task that works for some time, without giving up the event loop, whenever it is woken."""

    def __init__(self, work_seconds: float = 0.0) -> None:
        self.news = asyncio.Event()
        self.woken: list[float] = []
        self._work_seconds = work_seconds
        self._task = asyncio.create_task(self._run())

    async def _run(self) -> None:
        while True:
            await self.news.wait()
            self.news.clear()
            self.woken.append(time.perf_counter())
            time.sleep(self._work_seconds)  # noqa: ASYNC251 - it stands for work


async def test_news_after_a_quiet_time_is_delivered_at_once() -> None:
    rounds, sleeper = Rounds(), Sleeper()
    for number in range(3):
        await asyncio.sleep(0.01)
        rounds.add(sleeper.news)
        for _ in range(3):
            await asyncio.sleep(0)
        assert len(sleeper.woken) == number + 1


async def test_news_during_a_round_comes_after_a_pause_of_the_same_length() -> None:
    rounds, slow = Rounds(), Sleeper(WORK_SECONDS)
    rounds.add(slow.news)
    await wait_for_async(lambda: len(slow.woken) == 1, SECONDS, "the first round", pause=0)
    for _ in range(5):
        rounds.add(slow.news)
        await asyncio.sleep(0.002)
    await asyncio.sleep(LONGEST_PAUSE + WORK_SECONDS)
    assert len(slow.woken) == 2
    first, second = slow.woken
    assert second - first >= 2 * WORK_SECONDS - 0.002


async def test_a_long_round_delays_the_next_one_by_a_bounded_pause() -> None:
    rounds, slow = Rounds(), Sleeper(4 * LONGEST_PAUSE)
    rounds.add(slow.news)
    await wait_for_async(lambda: len(slow.woken) == 1, SECONDS, "the first round", pause=0)
    rounds.add(slow.news)
    started = time.perf_counter()
    await wait_for_async(lambda: len(slow.woken) == 2, SECONDS, "the second round", pause=0.001)
    assert slow.woken[1] - started < 2 * LONGEST_PAUSE
