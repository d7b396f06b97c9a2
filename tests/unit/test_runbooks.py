"""Every `imagepipe` command in the documentation exists, with the options it is given."""

import re
import shlex
from pathlib import Path
from typing import Any

import pytest
import typer.main

from ops.cli import app

ROOT = Path(__file__).parents[2]
IMAGEPIPE: Any = typer.main.get_command(app)
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
    while words and hasattr(found, "commands"):
        name = words.pop(0)
        if "|" in name or name.startswith("-"):
            return
        assert name in found.commands, f"{page}: {command}"
        found = found.commands[name]
    options = {option for parameter in found.params for option in (*parameter.opts, *parameter.secondary_opts)}
    given = {word.split("=")[0] for word in words if word.startswith("-")}
    assert given <= options | {"--help"}, f"{page}: {command}"


def test_there_are_commands() -> None:
    assert len(COMMANDS) > 40
