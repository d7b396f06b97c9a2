"""Injects faults of processes, and at the same time disturbances.

A fault of a process kills, stops or restarts parts, or adds and removes a worker; the stack recovers before the next
one. A worker is stopped for longer than the consumers' session time-out while another takes its partitions over. It
continues as a zombie: a process that treats partitions as its own although another worker has them.

A disturbance ends by itself: of the network between a service and an engine, of a gateway's clock, of a render process,
or of the pictures that clients send. It concerns one process only, and is followed by the next one while the stack may
still recover. The disturbances of the network and the others are injected at the same time.
"""

import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial

import httpx
import psutil

from deploy.local.ports import choose
from deploy.local.state import ProcessRef
from deploy.local.topology import kind_of
from tests.faults.deck import (
    KINDS,
    WORKERS,
    Action,
    Card,
    deal,
    full_deck,
    local_disturbances,
    network_disturbances,
)
from tests.faults.workload import Pictures
from tests.support.engines.proxied import REAL_TIME, ProxiedStack, service_environment
from tests.support.engines.replicas import wait_whole
from tests.support.processes.halt import stopped
from tests.support.processes.tcp_proxy import Meant
from tests.support.waiting import wait_for

RECOVERY_SECONDS = 300.0
"""An upper limit: six Java engines on two busy cores took up to four minutes to restart."""
LONG_RUN_SECONDS = 240.0
"""From this duration on a run has time for outages that are longer than the services' retry deadline."""
SERVICES = ("gateway", "processor", "indexer")
REPLICATED = ("kafka", "cassandra")
"""Kinds of which a cluster has three, so that any one may be unavailable."""


@dataclass(frozen=True)
class Fault:
    """A fault as it was injected, at these times of the monotonic clock.

    `recovery_seconds`: from the kill, or from the end of a stop, until every service called itself ready again; None
    for a disturbance.
    """

    card: Card
    parts: tuple[str, ...]
    began: float
    ended: float
    recovery_seconds: float | None

    @property
    def is_absence(self) -> bool:
        """Whether one part alone was unavailable for some time."""
        return len(self.parts) == 1 and self.card.action in (Action.KILL, Action.STOP, Action.OUTAGE)

    def __str__(self) -> str:
        amount = f" {self.card.amount}" if self.card.amount else ""
        recovered = "" if self.recovery_seconds is None else f", recovered in {self.recovery_seconds:.1f} s"
        lasted = f"{self.ended - self.began:.1f} s{recovered}"
        return f"{self.card.action}{amount} {' and '.join(self.parts)} ({lasted})"


def opened_by(process: Callable[[], ProcessRef | None]) -> Meant:
    """Whether the process of a part, which may have been restarted, has opened the connection."""

    def meant(port: int) -> bool:
        running = process()
        with suppress(psutil.NoSuchProcess):
            opened = psutil.Process(running.pid).net_connections("tcp") if running else []
            return any(each.laddr.port == port for each in opened if each.laddr)
        return False

    return meant


class Nemesis:
    """Injects faults. `faults` lists them in the order in which they ended."""

    def __init__(self, stack: ProxiedStack, pictures: Pictures, seed: int, duration: float) -> None:
        self.faults: list[Fault] = []
        self._stack = stack
        self._pictures = pictures
        self._parts = stack.parts(*KINDS)
        self._rng = random.Random(f"nemesis/{seed}")
        self._seed = seed
        self._cards = deal(partial(full_deck, outages=duration >= LONG_RUN_SECONDS), seed)
        if stack.state().cluster:
            # A cluster adds these; faults of services alone are the same on single nodes.
            self._cards = (card for card in self._cards if set(card.kinds) & set(REPLICATED))
        self._extra: list[subprocess.Popen[bytes]] = []
        self._probes = httpx.Client(timeout=10)

    def run(self, until: float) -> None:
        """Inject faults of processes until the monotonic time `until`. Blocks until the stack has recovered."""
        try:
            for number, card in enumerate(self._cards):
                # The first fault is injected in any case; a later one that would end long after the run is left out.
                if number and time.monotonic() + 0.8 * card.seconds > until:
                    break
                self._play(card)
                time.sleep(self._rng.uniform(0.1, 0.5))
        finally:
            self._end_extra_workers()
            self._wait_whole()
            self._probes.close()

    def disturb_network(self, until: float) -> None:
        """Disturb the network until the monotonic time `until`. Blocks until the last disturbance has ended."""
        self._disturb_all(network_disturbances, until, pause=0.3)

    def disturb_processes(self, until: float) -> None:
        """Inject the other disturbances until the monotonic time `until`. Blocks until the last one has ended."""
        self._disturb_all(local_disturbances, until, pause=2.0)

    def _disturb_all(self, deck: Callable[[int], list[Card]], until: float, pause: float) -> None:
        rng = random.Random(f"{deck.__name__}/{self._seed}")
        for card in deal(deck, self._seed):
            if time.monotonic() + card.seconds > until:
                break
            parts = self._members(card, rng)
            began = time.monotonic()
            # The processor may be killed in the same moment as its render process; then nothing was disturbed.
            with suppress(psutil.NoSuchProcess):
                self._disturb(card, parts, rng)
                self.faults.append(Fault(card, parts, began, time.monotonic(), None))
            time.sleep(rng.uniform(0.5, 1.5) * pause)

    def _play(self, card: Card) -> None:
        parts = self._members(card, self._rng)
        began = time.monotonic()
        over = self._hurt(card, parts)
        ended = time.monotonic()
        self._wait_whole()
        self.faults.append(Fault(card, parts, began, ended, time.monotonic() - over))

    @property
    def absences(self) -> list[Fault]:
        """Times when one broker or node of a cluster was unavailable and nothing else, so requests had to be served."""
        if not self._stack.state().cluster:
            return []
        return [fault for fault in self.faults if fault.is_absence and fault.card.kinds[0] in REPLICATED]

    def _members(self, card: Card, rng: random.Random) -> tuple[str, ...]:
        """A part of each of the card's kinds."""
        return tuple(rng.choice([name for name in self._parts if kind_of(name) == kind]) for kind in card.kinds)

    def _hurt(self, card: Card, parts: Sequence[str]) -> float:
        """The monotonic time at which the fault ended."""
        match card.action:
            case Action.KILL | Action.KILL_PAIR:
                return self._end(parts, signal.SIGKILL)
            case Action.RESTART:
                return self._end(parts, signal.SIGTERM)
            case Action.STOP | Action.OUTAGE:
                return self._stop(parts[0], card.lasts)
            case Action.STOP_AND_KILL:
                return self._stop(parts[0], card.lasts, also_killed=parts[1:])
            case Action.STOP_RENDER:
                return self._stop_render_process(parts[0], card.lasts)
            case Action.ADD_AND_REMOVE:
                self._add_worker(kind_of(parts[0]))
                return self._end_extra_workers()
            case _:
                raise ValueError(f"{card} is a disturbance")

    def _disturb(self, card: Card, parts: Sequence[str], rng: random.Random) -> None:
        match card.action:
            case Action.DROP | Action.DELAY | Action.RESET:
                self._disturb_network(card, *parts)
            case Action.JUMP:
                self._stack.set_clock(parts[0], card.amount)
                time.sleep(card.lasts)
                self._stack.set_clock(parts[0], REAL_TIME)
            case Action.FAILING_PICTURES:
                with self._pictures.all_failing():
                    time.sleep(card.lasts)
            case Action.KILL_RENDER:
                self._render_process(parts[0], rng).kill()
            case _:
                raise ValueError(f"{card} is no disturbance")

    def _end(self, names: Sequence[str], number: signal.Signals) -> float:
        began = time.monotonic()
        old = {name: self._stack.kill(name, number) for name in names}
        for name, pid in old.items():
            self._stack.wait_restarted(name, pid, RECOVERY_SECONDS)
        return began

    def _stop(self, name: str, seconds: float, also_killed: Sequence[str] = ()) -> float:
        """Stop a part for some time. A second worker of its kind takes over the partitions of a stopped worker."""
        if kind_of(name) in WORKERS:
            self._add_worker(kind_of(name))
        with stopped(self._stack.pid(name)):
            self._end_without_waiting(also_killed)
            time.sleep(seconds)
        over = time.monotonic()
        self._end_extra_workers()
        return over

    def _end_without_waiting(self, names: Sequence[str]) -> None:
        for name in names:
            self._stack.kill(name)

    def _stop_render_process(self, name: str, seconds: float) -> float:
        with stopped(self._render_process(name, self._rng).pid):
            time.sleep(seconds)
        return time.monotonic()

    def _render_process(self, name: str, rng: random.Random) -> psutil.Process:
        """One of the processor's own children, as soon as it has one: the processor may be starting."""

        def children() -> list[psutil.Process]:
            running = self._stack.part(name).process
            with suppress(psutil.NoSuchProcess):
                return psutil.Process(running.pid).children(recursive=True) if running else []
            return []

        return rng.choice(wait_for(children, RECOVERY_SECONDS, f"{name} has render processes"))

    def _disturb_network(self, card: Card, service: str, engine: str) -> None:
        """Disturb the network between one service and one engine; the other services still reach that engine."""
        proxy = self._stack.proxies[engine]
        meant = opened_by(lambda: self._stack.part(service).process)
        match card.action:
            case Action.DROP:
                proxy.hold(meant)
            case Action.DELAY:
                proxy.delay(float(card.amount), meant)
            case _:
                proxy.reset(meant)
        time.sleep(card.lasts)
        proxy.release()

    def _add_worker(self, kind: str) -> None:
        """Start one worker beside those of the supervisor, and wait until it is in the group."""
        port = choose(())
        own = {f"{kind.upper()}_INTERNAL_PORT": str(port), "LOG_LEVEL": "WARNING"}
        values = self._stack.root.read_env() | service_environment(self._stack.state())
        with (self._stack.root.logs / f"{kind}-extra.log").open("ab") as log:
            argv = [sys.executable, "-m", kind]
            self._extra.append(subprocess.Popen(argv, env={**os.environ, **values, **own}, stdout=log, stderr=log))
        self._wait_answering(f"http://127.0.0.1:{port}/readyz")

    def _end_extra_workers(self) -> float:
        began = time.monotonic()
        for extra in self._extra:
            extra.terminate()
        for extra in self._extra:
            with suppress(subprocess.TimeoutExpired):
                extra.wait(40)
            extra.kill()
            extra.wait()
        self._extra.clear()
        return began

    def _wait_whole(self) -> None:
        """Wait until every part runs and every service is ready, which means that all its engines answer."""
        for name in self._parts:
            self._stack.wait_ready(name, RECOVERY_SECONDS)
        for name in self._stack.parts(*SERVICES):
            self._wait_answering(self._stack.part(name).ready_url)
        if self._stack.state().cluster:
            # The part that is stopped next must not be the only one with the latest records.
            wait_whole(self._stack.settings, RECOVERY_SECONDS)

    def _wait_answering(self, url: str) -> None:
        def ready() -> bool:
            with suppress(httpx.TransportError):
                return self._probes.get(url).status_code == 200
            return False

        wait_for(ready, RECOVERY_SECONDS, f"{url} says ready")
