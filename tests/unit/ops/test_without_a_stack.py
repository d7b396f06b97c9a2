"""A command for which there is no stack reports that in one sentence and ends with exit code 1."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import typer

from deploy.local.errors import StackError
from ops.cli import COMMANDS, app
from shared.errors import ConfigurationError

ARGUMENTS: dict[str, list[list[str]]] = {
    "init": [[]],
    "lag": [[]],
    "tail": [[]],
    "events": [["listen", "--forward-to", "http://127.0.0.1:3000/hook"]],
    "verify": [[]],
    "topics": [["plan"], ["apply"], ["describe"], ["copy", "--from-prefix", "a", "--from-epoch", "1"]],
    "schema": [["plan"], ["apply"]],
    "dlq": [["list"], ["show", "0:1"], ["redrive", "--all"], ["drop", "--all"]],
    "gc": [[]],
    "reindex": [["--into", "fresh"]],
    "replay": [["--from", "beginning"]],
    "reprocess": [[]],
    "erase": [["--owner", "user:1"]],
}
"""The arguments that each command needs, for each of its sub-commands."""
OF_THE_STACK_ITSELF = {"up", "down", "status", "logs"}


def command(*arguments: str) -> Any:
    return typer.main.get_command(app).main([*arguments], standalone_mode=False)


def test_every_command_is_tested() -> None:
    assert set(COMMANDS) == ARGUMENTS.keys() | OF_THE_STACK_ITSELF


@pytest.mark.parametrize(("name", "given"), [(name, each) for name, many in ARGUMENTS.items() for each in many])
def test_a_command_refuses_a_root_without_a_stack(name: str, given: list[str], tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=f"holds no local stack: run `imagepipe up --root {tmp_path}` first"):
        command(name, *given, "--root", str(tmp_path))


def test_commands_of_the_stack_itself(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(StackError, match="`imagepipe up` starts a stack"):
        command("logs", "--root", str(tmp_path))
    assert command("status", "--root", str(tmp_path)) == 3
    command("down", "--root", str(tmp_path))
    assert f"No stack under {tmp_path}." in capsys.readouterr().out


def test_the_operator_sees_one_sentence(tmp_path: Path) -> None:
    result = subprocess.run(
        [sys.executable, "-m", "ops.cli", "lag", "--root", str(tmp_path)],
        env=os.environ, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert (result.returncode, result.stdout) == (1, "")
    assert result.stderr == f"✗ {tmp_path} holds no local stack: run `imagepipe up --root {tmp_path}` first\n"


@pytest.mark.parametrize("name", ["tail", "replay", "reprocess", "erase", "dlq"])
def test_a_text_that_is_no_owner_is_refused(name: str, tmp_path: Path) -> None:
    given = {"replay": ["--from", "beginning"], "dlq": ["list"]}.get(name, [])
    with pytest.raises(ConfigurationError, match="'photos' is not an owner: use type:id, such as user:1"):
        command(name, *given, "--owner", "photos", "--root", str(tmp_path))
