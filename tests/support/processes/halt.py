"""Stopped processes, as on a machine that hangs."""

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from tests.support.waiting import wait_for

SECONDS_TO_STOP = 30


@contextmanager
def stopped(pid: int) -> Iterator[None]:
    """SIGSTOP a process for the length of the block, which begins when all its threads have stopped.

    The threads stop some time after the signal: on a busy machine a broker answered one more request.
    """
    os.kill(pid, signal.SIGSTOP)
    try:
        wait_for(lambda: _stands_still(pid), SECONDS_TO_STOP, f"every thread of {pid} has stopped")
        yield
    finally:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGCONT)


def _stands_still(pid: int) -> bool:
    """Whether no thread runs; also True on a system without /proc."""
    try:
        return all(_state(stat) in "TtXZ" for stat in Path(f"/proc/{pid}/task").glob("*/stat"))
    except (FileNotFoundError, ProcessLookupError):
        # A thread has ended since the directory was read.
        return False


def _state(stat: Path) -> str:
    """State of a thread as proc(5) names it. The name before it, in brackets, may contain any character."""
    return stat.read_text().rpartition(") ")[2][0]
