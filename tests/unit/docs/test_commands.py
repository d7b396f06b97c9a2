"""The `imagepipe` commands: each in the documentation exists, with the options it is given, and each is in the help."""

import re
import shlex
from pathlib import Path
from typing import Any

import pytest
import typer.main
from typer.core import TyperGroup
from typer.testing import CliRunner

from ops.cli import app

ROOT = Path(__file__).parents[3]
IMAGEPIPE: Any = typer.main.get_command(app)
CONTEXT = typer.Context(IMAGEPIPE)
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
COMMANDS = sorted(
    {
        (str(page.relative_to(ROOT)), " ".join(command.split()))
        for page in PAGES
        for command in re.findall(r"`(?:\.venv/bin/)?(imagepipe [^`]+)`", page.read_text())
    }
)


@pytest.mark.parametrize(("page", "command"), COMMANDS)
def test_the_command_exists(page: str, command: str) -> None:
    found = IMAGEPIPE
    words = shlex.split(command)[1:]
    while words and isinstance(found, TyperGroup):
        name = words.pop(0)
        if "|" in name or name.startswith("-"):
            return
        assert name in found.list_commands(CONTEXT), f"{page}: {command}"
        found = found.get_command(CONTEXT, name)
    options = {option for parameter in found.params for option in (*parameter.opts, *parameter.secondary_opts)}
    given = {word.split("=")[0] for word in words if word.startswith("-")}
    assert given <= options | {"--help"}, f"{page}: {command}"


def test_there_are_commands() -> None:
    assert len(COMMANDS) > 40


def test_the_help_shows_every_command() -> None:
    answer = CliRunner().invoke(app, ["--help"])
    assert answer.exit_code == 0
    for name in IMAGEPIPE.list_commands(CONTEXT):
        assert f" {name} " in answer.output


def test_an_unknown_command_is_said() -> None:
    answer = CliRunner().invoke(app, ["verfy"])
    assert answer.exit_code == 2
    assert "No such command 'verfy'" in answer.output
