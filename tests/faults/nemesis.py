"""Hurts a running stack: kills, stops and restarts parts, one at a time and in pairs, and adds and removes workers.

A part is stopped for longer than the consumers' session time-out, so that it comes back as a zombie: a process that
believes to own partitions which others have taken over meanwhile.
"""

import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass

import psutil
from dotenv import dotenv_values

from deploy.local.ports import choose
from deploy.local.topology import kind_of
from tests.replicas import wait_whole
from tests.stack import Stack

KINDS = ("gateway", "processor", "indexer", "kafka", "cassandra", "s3")
WORKERS = ("processor", "indexer")
REPLICATED = ("kafka", "cassandra")
"""Kinds of which a cluster has three, so that any one may be away."""
ZOMBIE_SECONDS = 13.0
"""Above the session time-out of 10 s."""
RECOVERY_SECONDS = 60.0

Fault = Callable[[], None]


@dataclass(frozen=True)
class Absence:
    """A broker or node of a cluster that was away alone. Times are of the monotonic clock."""

    name: str
    began: float
    ended: float


class Nemesis:
    """Injects faults until told to stop; each heals before the next. `faults` says what was done, in order."""

    def __init__(self, stack: Stack, seed: int) -> None:
        self.faults: list[str] = []
        self.recovery_seconds: list[float] = []
        self.absences: list[Absence] = []
        self._stack = stack
        self._parts = stack.parts(*KINDS)
        self._nodes = stack.parts(*REPLICATED) if stack.state().cluster else ()
        self._rng = random.Random(f"nemesis/{seed}")
        self._extra: list[subprocess.Popen[bytes]] = []

    def run(self, until: float) -> None:
        """Inject faults until the monotonic time `until`. Blocks; the stack is whole again when this returns."""
        kinds = [self._kill, self._kill, self._kill_pair, self._zombie, self._kill_render_worker]
        if self._nodes:
            kinds += [self._kill_node, self._freeze_node]
        try:
            for kind in self._shuffled(kinds):
                if time.monotonic() >= until:
                    break
                kind()
                time.sleep(self._rng.uniform(0.5, 2.0))
        finally:
            self.heal()

    def _shuffled(self, kinds: list[Fault]) -> Iterator[Fault]:
        """Every kind once in random order, then again: a short run sees each kind before it sees one twice."""
        while True:
            yield from self._rng.sample(kinds, len(kinds))

    def heal(self) -> None:
        """End extra workers and wait until every part is ready."""
        for extra in self._extra:
            extra.send_signal(signal.SIGCONT)
            extra.terminate()
        for extra in self._extra:
            with suppress(subprocess.TimeoutExpired):
                extra.wait(40)
            extra.kill()
        self._extra.clear()
        for name in self._parts:
            self._stack.wait_ready(name, RECOVERY_SECONDS)

    def _kill(self) -> None:
        self._kill_parts([self._rng.choice(self._parts)])

    def _kill_pair(self) -> None:
        """Two of different kinds: a cluster outlives any one of a kind, and never promised to outlive two."""
        first = self._rng.choice(self._parts)
        others = [name for name in self._parts if kind_of(name) != kind_of(first)]
        self._kill_parts([first, self._rng.choice(others)])

    def _kill_parts(self, names: list[str]) -> None:
        self.faults.append(f"kill -9 {' and '.join(names)}")
        began = time.monotonic()
        old = {name: self._stack.kill(name) for name in names}
        for name, pid in old.items():
            self._stack.wait_restarted(name, pid, RECOVERY_SECONDS)
        self._recovered(began, names)

    def _recovered(self, began: float, names: list[str]) -> None:
        """Take the times. What is away next must not be the only one with the latest records."""
        ended = time.monotonic()
        if self._nodes:
            wait_whole(self._stack.settings, RECOVERY_SECONDS)
        if len(names) == 1 and names[0] in self._nodes:
            self.absences.append(Absence(names[0], began, ended))
        self.recovery_seconds.append(time.monotonic() - began)

    def _kill_node(self) -> None:
        self._kill_parts([self._rng.choice(self._nodes)])

    def _freeze_node(self) -> None:
        """Stop a broker or node: its connections stay open, so that only time-outs tell that it is away."""
        name = self._rng.choice(self._nodes)
        self.faults.append(f"stop {name} for {ZOMBIE_SECONDS:.0f} s")
        began = time.monotonic()
        with stopped(self._stack.pid(name)):
            time.sleep(ZOMBIE_SECONDS)
        self._recovered(began, [name])

    def _zombie(self) -> None:
        """Stop a worker while another takes its partitions over, then let it go on."""
        name = self._rng.choice(self._stack.parts(*WORKERS))
        self.faults.append(f"add another {kind_of(name)}, stop {name} for {ZOMBIE_SECONDS:.0f} s")
        self._add_worker(kind_of(name))
        pid = self._stack.pid(name)
        with stopped(pid):
            time.sleep(ZOMBIE_SECONDS)
        extra = self._extra.pop()
        extra.terminate()
        extra.wait(40)

    def _add_worker(self, name: str) -> None:
        port = choose(())
        own = {f"{name.upper()}_INTERNAL_PORT": str(port), "LOG_LEVEL": "WARNING"}
        values = {key: value or "" for key, value in dotenv_values(self._stack.root.env_file).items()}
        log = (self._stack.root.logs / f"{name}-extra.log").open("ab")
        argv = [sys.executable, "-m", name]
        self._extra.append(subprocess.Popen(argv, env={**os.environ, **values, **own}, stdout=log, stderr=log))
        time.sleep(4)

    def _kill_render_worker(self) -> None:
        """Kill one of the processor's own children, in the middle of whatever it renders."""
        children = psutil.Process(self._stack.pid("processor")).children(recursive=True)
        if children:
            victim = self._rng.choice(children)
            self.faults.append("kill -9 a child process of the processor")
            with suppress(psutil.NoSuchProcess):
                victim.kill()


@contextmanager
def stopped(pid: int) -> Iterator[None]:
    """SIGSTOP a process for the length of the block."""
    os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGCONT)
