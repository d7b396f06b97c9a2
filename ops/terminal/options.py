"""Command-line options that several commands share."""

from pathlib import Path
from typing import Annotated

import typer

from deploy.local.state import Root

RootOption = Annotated[
    Path,
    typer.Option("--root", help="Directory of the stack: data, logs, ports, secrets. Several can live side by side."),
]
DEFAULT_ROOT = Path(".imagepipe")


def root_at(path: Path) -> Root:
    """The stack in this directory; absolute, as its parts may have other working directories."""
    return Root(path.expanduser().absolute())
