"""The supervisor of a stack in the background: `python -m ops.stack.supervise`, started by `imagepipe up --detach`.

A program of its own, so that a stack does not import the other commands.
"""

import os
import sys
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from deploy.local.errors import disk_errors
from deploy.local.reporting import Reporter
from deploy.local.stack import Adapt, Options, unchanged
from deploy.local.state import Root
from ops.stack.foreground import locked, serve
from ops.terminal.output import quieten_clients
from shared.errors import ImagepipeError


def main(adapt: Adapt = unchanged) -> None:
    """Run as `imagepipe up` does, with the parts' logs in files only. `adapt`: see `Options`."""

    def supervise(
        root: Annotated[Path, typer.Option()],
        gateway_port: Annotated[int | None, typer.Option()] = None,
        engines: Annotated[bool, typer.Option("--engines")] = False,
        cluster: Annotated[bool, typer.Option("--cluster")] = False,
        lock: Annotated[int | None, typer.Option(help="Descriptor of the root's lock, if it is held already.")] = None,
    ) -> None:
        reporter = Reporter(Console(highlight=False, width=120))
        options = Options(Root.at(root), gateway_port, not engines, dict(os.environ), cluster, adapt)
        with disk_errors(options.root.path), os.fdopen(lock, "a") if lock is not None else locked(options.root) as held:
            serve(options, held, reporter, lambda _name, _line, _quiet: None, lambda _state: None)

    quieten_clients()
    try:
        typer.run(supervise)
    except ImagepipeError as error:
        sys.exit(f"✗ {error}")


if __name__ == "__main__":
    main()
