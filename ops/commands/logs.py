"""`imagepipe logs`: the logs of the local stack's parts."""

import time
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from deploy.local.errors import StackError
from deploy.local.state import Root
from deploy.local.supervision.logs import ConsoleSink, tail
from deploy.local.topology import kind_of
from ops.terminal.options import DEFAULT_ROOT, StackRoot


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command()(logs)


def logs(
    part: Annotated[
        str | None,
        typer.Argument(
            help="kafka, cassandra, s3, gateway, processor or indexer; in a cluster also a member, as kafka-2."
        ),
    ] = None,
    root: StackRoot = DEFAULT_ROOT,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Show new lines until Ctrl-C.")] = False,
    lines: Annotated[int, typer.Option("--lines", "-n", min=0, help="Number of last lines of each log.")] = 40,
) -> None:
    """Show the last lines of one part's log, or of all."""
    console = Console(highlight=False)
    sink = ConsoleSink(console)
    files = log_files(Root.at(root), part)
    for name, path in files.items():
        for line in tail(path, lines):
            sink.show(name, line, quiet=False)
    if follow:
        try:
            _follow(files, sink)
        except KeyboardInterrupt:
            return


def log_files(root: Root, part: str | None) -> dict[str, Path]:
    """The existing log files by part: of one part, of all parts of a kind, or of all parts.

    Raises StackError when there are none, or none of that name.
    """
    found = {path.stem: path for path in sorted(root.logs.glob("*.log"))}
    if not found:
        raise StackError(f"No logs under {root.logs}: `imagepipe up` starts a stack.")
    if part is None:
        return found
    chosen = {name: path for name, path in found.items() if part in (name, kind_of(name))}
    if not chosen:
        raise StackError(f"No log of a part named {part}: there are {', '.join(found)}.")
    return chosen


def _follow(files: dict[str, Path], sink: ConsoleSink) -> None:
    offsets = {name: path.stat().st_size for name, path in files.items()}
    while True:
        for name, path in files.items():
            size = path.stat().st_size
            if size < offsets[name]:
                offsets[name] = 0  # The log was rotated: this is a new file.
            with path.open("rb") as file:
                file.seek(offsets[name])
                whole, newline, _ = file.read().rpartition(b"\n")
            offsets[name] += len(whole + newline)
            for line in whole.decode(errors="replace").splitlines():
                sink.show(name, line, quiet=False)
        time.sleep(0.3)
