"""A stack in the background: starting its supervisor, and waiting until it is ready."""

import subprocess
import sys
import time
from pathlib import Path
from typing import IO

from deploy.local.errors import StackError
from deploy.local.reporting import Reporter
from deploy.local.stack import Options
from deploy.local.state import Phase, Root, State
from deploy.local.supervision import process
from deploy.local.supervision.parts import Part

READY_SECONDS = 3 * Part.start_timeout
"""Engines start, are prepared, then the services start. The supervisor itself ends at the first part that exceeds its
own time limit, and names it; this limit is for a supervisor that hangs."""


def start(options: Options, lock: IO[str], reporter: Reporter) -> State:
    """Start a supervisor in its own session and return when all parts are ready. Raises StackError.

    The supervisor inherits the root's lock, so that the root is locked at any time.
    """
    root = options.root
    root.create()
    log = root.logs / "supervisor.log"
    argv = [sys.executable, "-m", "ops.stack.supervise", "--root", str(root.path), "--lock", str(lock.fileno())]
    if options.gateway_port is not None:
        argv += ["--gateway-port", str(options.gateway_port)]
    if not options.with_services:
        argv.append("--engines")
    if options.cluster:
        argv.append("--cluster")
    with log.open("wb") as output:
        child = subprocess.Popen(
            argv, env=dict(options.given), stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT,
            start_new_session=True, pass_fds=(lock.fileno(),),
        )  # fmt: skip
    root.name_holder(lock, process.reference(child.pid))
    lock.close()
    try:
        return follow_until_ready(child, root, log, reporter)
    except KeyboardInterrupt:
        reporter.say(f"The start goes on in the background; `imagepipe down --root {root.path}` ends it.")
        raise


def follow_until_ready(child: subprocess.Popen[bytes], root: Root, log: Path, reporter: Reporter) -> State:
    """Print the supervisor's log until all parts are ready. Ends the supervisor and raises StackError if it fails."""
    follower = _Follower(log, reporter)
    deadline = time.monotonic() + READY_SECONDS
    while time.monotonic() < deadline:
        follower.show_new()
        state = root.load()
        mine = state is not None and state.supervisor is not None and state.supervisor.pid == child.pid
        if state is not None and mine and state.phase is Phase.READY:
            follower.show_new()
            return state
        if child.poll() is not None:
            follower.show_new()
            raise StackError(f"The stack did not start: {log} says why.")
        time.sleep(0.1)
    child.terminate()
    raise StackError(f"The stack was not ready within {READY_SECONDS:.0f} s; see {log}.")


def wait_until_ready(root: Root, reporter: Reporter) -> State:
    """The state of a stack that another `up` has started, once it is ready. Raises StackError if it fails."""
    deadline = time.monotonic() + READY_SECONDS
    said = False
    while time.monotonic() < deadline:
        state = root.load()
        if state is not None and state.phase is Phase.READY:
            return state
        if not root.is_supervised():
            raise StackError(f"The stack under {root.path} has just ended: {state.message if state else ''}")
        if not said:
            reporter.say(f"A stack under {root.path} is starting or stopping: waiting for it.")
            said = True
        time.sleep(0.2)
    raise StackError(f"The stack under {root.path} is still not ready; see {root.logs}.")


class _Follower:
    """Prints what the supervisor has written since the last call."""

    def __init__(self, path: Path, reporter: Reporter) -> None:
        self._path = path
        self._reporter = reporter
        self._offset = 0

    def show_new(self) -> None:
        with self._path.open("rb") as file:
            file.seek(self._offset)
            whole, newline, _ = file.read().rpartition(b"\n")
        self._offset += len(whole + newline)
        for line in whole.decode(errors="replace").splitlines():
            self._reporter.say(line)
