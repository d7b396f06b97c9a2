"""Command-line options that several commands share, each defined once."""

from pathlib import Path
from typing import Annotated

import typer

from shared.contract.keys import Owner
from shared.errors import ConfigurationError


def parse_owner(text: str) -> Owner:
    """The owner in `user:1`. Raises ConfigurationError."""
    kind, _, name = text.partition(":")
    try:
        return Owner(type=kind, id=name)
    except ValueError as error:
        raise ConfigurationError(f"{text!r} is not an owner: write type:id, such as user:1") from error


StackRoot = Annotated[
    Path,
    typer.Option("--root", help="Directory of the stack: data, logs, ports, secrets. Several can live side by side."),
]
DEFAULT_ROOT = Path(".imagepipe")
DeploymentRoot = Annotated[
    Path | None,
    typer.Option(
        "--root", help="Directory of a local stack; its `env` file wins over the environment.", show_default=False
    ),
]
AsJson = Annotated[bool, typer.Option("--json", help="One JSON document (or a line per record) on stdout.")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Show the plan with its counts and change nothing.")]
Yes = Annotated[bool, typer.Option("--yes", "-y", help="Go ahead without asking; for scripts.")]
OnlyOwner = Annotated[
    Owner | None,
    typer.Option("--owner", parser=parse_owner, metavar="TYPE:ID", help="Only of this owner, such as user:1."),
]
