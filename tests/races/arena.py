"""Runs races in batches on a running stack while a process is stopped or killed, and watches what follows.

The second request of a race is sent up to 40 ms after the first, to the same gateway or to another one. In a third of
the batches the processor is stopped before the races and continues some seconds after them, in a third the indexer. In
every fourth batch one gateway is killed (SIGKILL) while the races run, and started again.
"""

import asyncio
import random
import signal
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass

from tests.races.front import Front
from tests.races.race import Finding, Race, View
from tests.support.engines.stack import Stack
from tests.support.processes.gateway import GatewayProcess
from tests.support.processes.halt import stopped

OFFSET_SECONDS = 0.04
BATCH = 12
"""Races of one rule in a batch. They are watched together."""
AT_ONCE = 4
"""Races at the same time. With more, requests would wait for each other for longer than the offset."""
WATCH_SECONDS = 10.0
"""After both answers."""
HALT_SECONDS = (1.0, 6.0)
"""How long a stopped process stays stopped after the races. The rest of the watch shows what it does then."""
KILL_SECONDS = 0.6
"""The gateway is killed within this time of the first request. The races of a batch take about as long."""
PAUSE_SECONDS = 0.4
FEWEST_CHECKS = 3
STOPPED = (None, "processor", "indexer")
KILLS_EVERY = 4

NewRace = Callable[[random.Random], Race]


@dataclass(frozen=True)
class _Situation:
    """What happens to the stack during a batch."""

    stopped: str | None
    kills: bool

    def __str__(self) -> str:
        name = f"{self.stopped} stopped" if self.stopped else "all running"
        return f"{name}, a gateway killed" if self.kills else name


class Arena:
    """Two gateways of one stack."""

    def __init__(self, stack: Stack, mortal: GatewayProcess, fronts: tuple[Front, Front], seed: int) -> None:
        """`mortal` is the gateway that is killed. `fronts` are clients of the stack's gateway and of that one."""
        self._stack = stack
        self._mortal = mortal
        self._fronts = fronts
        self._rng = random.Random(f"races/{seed}")

    async def run(self, kinds: Sequence[NewRace], races: int) -> list[Finding]:
        """Run so many races of each kind; returns what was seen."""
        findings: list[Finding] = []
        for number, start in enumerate(range(0, races, BATCH)):
            batch = [kind(self._rng) for kind in kinds for _ in range(min(BATCH, races - start))]
            situation = _Situation(STOPPED[number % len(STOPPED)], number % KILLS_EVERY == KILLS_EVERY - 1)
            findings += await self._batch(batch, situation)
        return findings

    async def _batch(self, races: Sequence[Race], situation: _Situation) -> list[Finding]:
        slots = asyncio.Semaphore(AT_ONCE)
        await asyncio.gather(*(self._prepare(race, slots) for race in races))
        with ExitStack() as halt:
            if situation.stopped:
                await asyncio.to_thread(halt.enter_context, stopped(self._stack.pid(situation.stopped)))
            views = [asyncio.create_task(self._race(race, slots)) for race in races]
            killing = asyncio.create_task(self._kill_and_restart()) if situation.kills else None
            watches = [
                asyncio.create_task(watch(race, view, str(situation))) for race, view in zip(races, views, strict=True)
            ]
            await asyncio.wait(views)
            await asyncio.sleep(self._rng.uniform(*HALT_SECONDS))
            await asyncio.to_thread(halt.close)
            findings = await asyncio.gather(*watches)
            if killing:
                await killing
        return findings

    async def _prepare(self, race: Race, slots: asyncio.Semaphore) -> None:
        # A gateway gives one client address only a part of its slots for uploads.
        async with slots:
            await race.prepare(self._rng.choice(self._fronts))

    async def _race(self, race: Race, slots: asyncio.Semaphore) -> View:
        offset = self._rng.uniform(0, OFFSET_SECONDS)
        asked = (self._rng.choice(self._fronts), self._rng.choice(self._fronts))
        async with slots:
            first = asyncio.create_task(race.send(0, asked[0]))
            await asyncio.sleep(offset)
            second = await race.send(1, asked[1])
            return View((await first, second), asked, self._fronts)

    async def _kill_and_restart(self) -> None:
        await asyncio.sleep(self._rng.uniform(0, KILL_SECONDS))
        self._mortal.signal(signal.SIGKILL)
        await asyncio.to_thread(self._mortal.wait_ended)
        self._mortal.start()
        await self._mortal.wait_ready_async()


async def watch(race: Race, viewed: asyncio.Task[View], situation: str) -> Finding:
    """Check the rule of a race for WATCH_SECONDS after both answers, and on a slow machine for FEWEST_CHECKS checks."""
    view = await viewed
    answered = time.monotonic()
    finding = Finding(race.name, situation, view.answers)
    while time.monotonic() - answered < WATCH_SECONDS or finding.checks < FEWEST_CHECKS:
        for place in await race.broken(view):
            finding.broken[place] = time.monotonic() - answered
        finding.checks += 1
        await asyncio.sleep(PAUSE_SECONDS)
    return finding
