"""A stack in this process: the root's lock, the programs of the engines, and running until a signal arrives."""

import asyncio
import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import IO

from deploy.local import stack
from deploy.local.cache import user_cache
from deploy.local.errors import StackError
from deploy.local.reporting import Reporter
from deploy.local.state import Root, State
from deploy.local.supervision import process
from deploy.local.supervision.logs import Sink
from deploy.local.supervision.supervisor import STOP_SIGNALS


def locked(root: Root) -> IO[str]:
    """The root's lock, held until the file is closed; the directory is made. Raises StackError."""
    root.path.mkdir(parents=True, exist_ok=True, mode=0o700)
    lock = root.try_lock()
    if lock is None:
        raise StackError(
            f"A stack under {root.path} is being started by another `imagepipe up`: wait for that, or end it "
            "with `imagepipe down`."
        )
    return lock


def fetch(options: stack.Options, lock: IO[str], reporter: Reporter) -> dict[str, Path]:
    """Programs and jars of the engines. While they are downloaded, `down` ends this process by SIGTERM, as Ctrl-C does.

    Raises StackError.
    """
    options.root.name_holder(lock, process.reference(os.getpid()))
    usual = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        return stack.fetch(options.engines, user_cache(), reporter)
    except KeyboardInterrupt:
        raise StackError("Interrupted. Finished downloads are kept: the same command goes on.") from None
    finally:
        signal.signal(signal.SIGTERM, usual)


def serve(
    options: stack.Options, lock: IO[str], reporter: Reporter, sink: Sink, when_ready: Callable[[State], None]
) -> None:
    """Start the stack in this process, which holds the lock, and keep it running until a signal arrives.

    Raises StackError.
    """
    found = fetch(options, lock, reporter)
    # Python's own handlers would end the program with a traceback in the middle of making the event loop.
    signals: list[int] = []
    usual = {number: signal.signal(number, lambda number, _frame: signals.append(number)) for number in STOP_SIGNALS}
    try:
        state = stack.prepare(options, reporter)
        asyncio.run(stack.run(options, state, found, reporter, sink, when_ready, signals))
    finally:
        for number, handler in usual.items():
            signal.signal(number, handler)
