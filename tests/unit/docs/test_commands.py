"""Each `imagepipe` command in the documentation exists, with the options that it is given there."""

import re
import shlex
from pathlib import Path
from typing import Any

import pytest
import typer.main
from typer.core import TyperGroup

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
def test_documented_command_and_its_options_exist(page: str, command: str) -> None:
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


def test_commands_are_found_in_the_documentation() -> None:
    assert len(COMMANDS) > 40
