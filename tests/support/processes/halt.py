"""Processes that stand still, as on a machine that hangs."""

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from tests.support.waiting import wait_for

SECONDS_TO_STOP = 30


@contextmanager
def stopped(pid: int) -> Iterator[None]:
    """SIGSTOP a process for the length of the block, which begins when all its threads stand still.

    The signal alone only asks for it: on a busy machine a broker answered one more request after it.
    """
    os.kill(pid, signal.SIGSTOP)
    try:
        wait_for(lambda: _stands_still(pid), SECONDS_TO_STOP, f"every thread of {pid} has stopped")
        yield
    finally:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGCONT)


def _stands_still(pid: int) -> bool:
    """Whether no thread runs; True, too, where the system does not tell (no /proc)."""
    try:
        return all(_state(stat) in "TtXZ" for stat in Path(f"/proc/{pid}/task").glob("*/stat"))
    except (FileNotFoundError, ProcessLookupError):
        # A thread has ended meanwhile.
        return False


def _state(stat: Path) -> str:
    """State of a thread as proc(5) names it. What is before it, in brackets, is a name and may hold anything."""
    return stat.read_text().rpartition(") ")[2][0]
