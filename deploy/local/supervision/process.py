"""Child processes of a stack: starting them, recognising them later, ending them."""

import asyncio
import contextlib
import os
import signal
import sys
import time
from asyncio.subprocess import DEVNULL, PIPE, STDOUT, Process
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import psutil

from deploy.local.errors import StackError
from deploy.local.state import ProcessRef

STACK_ID = "IMAGEPIPE_STACK_ID"
"""In the environment of every child, by which the next start recognises what a killed supervisor has left."""

STACK_ROOT = "IMAGEPIPE_STACK_ROOT"
"""In the environment of every child: the directory of its stack, for a message to another stack's user."""

TIED_TO = (sys.executable, "-I", "-S", str(Path(__file__).with_name("die_with_parent.py")))
"""Begins a command line: a pid and a program follow, and the kernel ends the program when its parent, the pid, ends."""


async def spawn(
    argv: Sequence[str], env: Mapping[str, str], stack_id: str, root: Path, *, with_input: bool = False
) -> Process:
    """Start a program in its own session, output to a pipe, ended by the kernel when this process ends.

    With `with_input` its standard input is a pipe as well.

    Must be called on the main thread: Linux ties the child to the thread that started it.
    """
    return await asyncio.create_subprocess_exec(
        *TIED_TO, str(os.getpid()), *argv,
        env={**env, STACK_ID: stack_id, STACK_ROOT: str(root)}, stdin=PIPE if with_input else DEVNULL, stdout=PIPE,
        stderr=STDOUT, start_new_session=True,
    )  # fmt: skip


def close_pipes(child: Process) -> None:
    """Close this process's ends of the pipes to a child, whose output is no longer read.

    A process that the child has started in a session of its own may hold the other ends. Then asyncio would print a
    traceback when its loop has ended. asyncio has no public call for this.
    """
    child._transport.close()  # type: ignore[attr-defined]


def reference(pid: int) -> ProcessRef | None:
    """Pid and start time of a process, or None if it is gone."""
    try:
        return ProcessRef(pid=pid, created=psutil.Process(pid).create_time())
    except psutil.NoSuchProcess:
        return None


def find(ref: ProcessRef | None) -> psutil.Process | None:
    """The process meant by a reference, if it still runs; never a later one that was given its pid."""
    if ref is None:
        return None
    try:
        process = psutil.Process(ref.pid)
        same = abs(process.create_time() - ref.created) < 0.1
    except psutil.NoSuchProcess:
        return None
    return process if same and _runs(process) else None


def signal_group(pid: int, number: signal.Signals) -> None:
    """Signal a child and everything it started. No error if all are gone."""
    try:
        os.killpg(pid, number)
    except (ProcessLookupError, PermissionError):
        return  # Gone; macOS answers EPERM for a group of zombies.


def leftovers(stack_id: str) -> list[psutil.Process]:
    """Processes of this stack that have no supervisor any more, grandchildren included."""
    found = []
    for process in psutil.process_iter():
        try:
            if process.pid != os.getpid() and process.environ().get(STACK_ID) == stack_id:
                found.append(process)
        except (psutil.Error, OSError):
            continue  # Another user's process, or one that has just ended: not ours.
    return found


def end(processes: Iterable[psutil.Process], grace: float) -> None:
    """SIGTERM, and SIGKILL after `grace` seconds. Returns when all are gone. Raises StackError if one stays."""
    waiting = list(processes)
    for number, seconds in ((signal.SIGTERM, grace), (signal.SIGKILL, 10.0)):
        for process in waiting:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.send_signal(number)
        deadline = time.monotonic() + seconds
        while (waiting := [each for each in waiting if _runs(each)]) and time.monotonic() < deadline:
            time.sleep(0.05)
    if waiting:
        names = ", ".join(str(process.pid) for process in waiting)
        raise StackError(
            f"Processes {names} of an earlier run did not end at SIGKILL: they wait for a disk or another "
            "device. Try again when it answers."
        )


def _runs(process: psutil.Process) -> bool:
    # A zombie has ended; only its parent can remove it.
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def memory(process: psutil.Process) -> int:
    """Resident bytes of a process and its descendants."""
    total = 0
    try:
        for member in (process, *process.children(recursive=True)):
            total += member.memory_info().rss
    except psutil.NoSuchProcess:
        return total
    return total


def wait_until_gone(ref: ProcessRef, timeout: float) -> bool:
    """Whether the process ended within `timeout` seconds."""
    deadline = time.monotonic() + timeout
    while find(ref) is not None:
        if time.monotonic() > deadline:
            return False
        time.sleep(0.1)
    return True
