"""The machine during a run: its load, the CPU time that its host took away, and the CPU time of processes."""

import os
import platform
import resource
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass
from typing import Any

import psutil

MAX_STEAL = 0.10
"""Fraction of the CPU time. Above it a run says more about the other guests of the host than about this software."""


@dataclass(frozen=True)
class Conditions:
    """The machine during a run. `steal` is a fraction of the CPU time, 0 where the system does not report it.

    `load` is the average number of runnable processes in the minute before the run. Above about 0.5 other work ran.
    """

    seconds: float
    steal: float
    load: float
    cores: int
    memory_gb: float
    processor: str
    system: str
    python: str

    @property
    def is_quiet(self) -> bool:
        """Whether the host left this machine its CPU time."""
        return self.steal <= MAX_STEAL

    def document(self) -> dict[str, Any]:
        """As JSON types."""
        return {name: round(value, 3) if isinstance(value, float) else value for name, value in asdict(self).items()}


class Watch:
    """Observes the machine from now on."""

    def __init__(self) -> None:
        self._started = time.monotonic()
        self._load = os.getloadavg()[0]
        self._before = psutil.cpu_times()

    def conditions(self) -> Conditions:
        """The conditions since the start of the watch."""
        now = psutil.cpu_times()
        total = sum(now) - sum(self._before)
        stolen = getattr(now, "steal", 0.0) - getattr(self._before, "steal", 0.0)
        return Conditions(
            seconds=time.monotonic() - self._started,
            steal=stolen / total if total else 0.0,
            load=self._load,
            cores=os.cpu_count() or 1,
            memory_gb=psutil.virtual_memory().total / 1e9,
            processor=_processor(),
            system=f"{platform.system()} {platform.release()}",
            python=platform.python_version(),
        )


def _processor() -> str:
    with suppress(OSError), open("/proc/cpuinfo") as file:  # noqa: PTH123 - not a file of the project
        for line in file:
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def cpu_seconds(pid: int) -> float:
    """User and system time of a process without its children."""
    times = psutil.Process(pid).cpu_times()
    return times.user + times.system


def own_cpu() -> float:
    """User and system time of this process without its children."""
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime


def cpu_of_children(pid: int) -> float:
    """User and system time of all living descendants of a process."""
    total = 0.0
    for child in psutil.Process(pid).children(recursive=True):
        with suppress(psutil.NoSuchProcess):
            total += cpu_seconds(child.pid)
    return total


class CpuMeter:
    """CPU seconds of named processes, with their descendants, since the meter was made."""

    def __init__(self, pids: Mapping[str, int]) -> None:
        self._pids = pids
        self._before = self._read()

    def _read(self) -> dict[str, float]:
        return {name: cpu_seconds(pid) + cpu_of_children(pid) for name, pid in self._pids.items()}

    def seconds(self) -> dict[str, float]:
        """Seconds by name."""
        return {name: now - self._before[name] for name, now in self._read().items()}
