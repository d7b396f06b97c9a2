"""Command-line options that several commands share, each defined once."""

from pathlib import Path
from typing import Annotated

import typer

from shared.contract.keys import Owner
from shared.errors import ConfigurationError


def parse_owner(text: str) -> Owner:
    """Parse an owner such as `user:1`. Raises ConfigurationError."""
    kind, _, name = text.partition(":")
    try:
        return Owner(type=kind, id=name)
    except ValueError as error:
        raise ConfigurationError(f"{text!r} is not an owner: use type:id, such as user:1") from error


StackRoot = Annotated[
    Path,
    typer.Option("--root", help="Directory of the stack, with its data, logs, ports and secrets."),
]
DEFAULT_ROOT = Path(".imagepipe")
DeploymentRoot = Annotated[
    Path | None,
    typer.Option(
        "--root", help="Directory of a local stack. Its file `env` overrides the environment.", show_default=False
    ),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON: one document, or one line for each record.")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Show the plan with its counts and change nothing.")]
Yes = Annotated[bool, typer.Option("--yes", "-y", help="Continue without asking, for scripts.")]
OnlyOwner = Annotated[
    Owner | None,
    typer.Option("--owner", parser=parse_owner, metavar="TYPE:ID", help="Only this owner, such as user:1."),
]
