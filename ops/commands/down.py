"""`imagepipe down`: stop the local stack, and remove its data on request."""

from typing import Annotated

import typer
from rich.console import Console

from deploy.local.errors import StackError
from deploy.local.reporting import Reporter
from deploy.local.state import Phase, ProcessRef, Root, State
from deploy.local.supervision import process
from ops.stack.foreground import locked
from ops.terminal.options import DEFAULT_ROOT, StackRoot

STOP_SECONDS = 90.0
"""How long `down` waits until services and then engines have ended; then it sends SIGKILL."""


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command()(down)


def down(
    root: StackRoot = DEFAULT_ROOT,
    delete_data: Annotated[bool, typer.Option("--delete-data", help="Also remove data, logs, ports, secrets.")] = False,
) -> None:
    """Stop what `up` started under this root, and nothing else."""
    reporter = Reporter(Console(highlight=False))
    place = Root.at(root)
    try:
        state = place.load()
    except StackError:
        if not delete_data or place.is_supervised():
            raise
        state = None
    if not _stop(place, state, reporter):
        reporter.say(f"No stack under {place.path}." if state is None else f"Nothing runs under {place.path}.")
    if delete_data and place.path.exists():
        with locked(place):
            place.delete()
        reporter.say(f"Removed the stack's data under {place.path}.")


def _stop(root: Root, state: State | None, reporter: Reporter) -> bool:
    """Whether there was something to stop. Raises StackError where the supervisor is unknown."""
    reference = _supervisor(root, state)
    supervisor = process.find(reference)
    if supervisor is not None and reference is not None:
        with reporter.step("Services and engines ended in order" if state else "The start was ended"):
            supervisor.terminate()
            if not process.wait_until_gone(reference, STOP_SECONDS):
                supervisor.kill()
    # A state that cannot be read, which `--delete-data` removes, names no processes.
    last = (root.load() if supervisor else None) or state
    left = process.leftovers(last.stack_id) if last else []
    if left:
        process.end(left, grace=10)
        reporter.say(f"Ended {len(left)} processes that had lost their supervisor.")
    if last:
        last.supervisor, last.phase = None, Phase.STOPPED
        root.save(last)
    return bool(supervisor or left)


def _supervisor(root: Root, state: State | None) -> ProcessRef | None:
    """The process that runs this root's stack, or downloads for it; None where there is none."""
    if not root.is_supervised():
        return None
    # Where an earlier version has started it, only the state names it.
    reference = root.holder() or (state.supervisor if state else None)
    if process.find(reference) is None and root.is_supervised():
        raise StackError(
            f"An `imagepipe up` under {root.path} is just starting or ending: try again in a moment. If it stays, "
            f"`fuser {root.lock_file}` names its process."
        )
    return reference
