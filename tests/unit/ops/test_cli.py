"""The `imagepipe` command itself: its help, and a command that does not exist."""

from typing import Any

import typer.main
from typer.testing import CliRunner

from ops.cli import app

IMAGEPIPE: Any = typer.main.get_command(app)
CONTEXT = typer.Context(IMAGEPIPE)


def test_help_shows_every_command() -> None:
    answer = CliRunner().invoke(app, ["--help"])
    assert answer.exit_code == 0
    for name in IMAGEPIPE.list_commands(CONTEXT):
        assert f" {name} " in answer.output


def test_unknown_command_is_reported() -> None:
    answer = CliRunner().invoke(app, ["verfy"])
    assert answer.exit_code == 2
    assert "No such command 'verfy'" in answer.output
