"""Every command of the README is run, against this run's stack instead of the one on port 8000."""

import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.engines.stack import Stack

ROOT = Path(__file__).parents[2]
BLOCKS = re.findall(r"```sh\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
COMMANDS = [line for block in BLOCKS for line in block.splitlines() if line.strip()]


def here(command: str, stack: Stack) -> list[str]:
    """The command as this run can carry it out."""
    match shlex.split(command.replace("http://127.0.0.1:8000", stack.base_url)):
        case ["make", target]:
            # This run is `make test`, and `imagepipe up` has tests of its own, so only make's own work is left.
            return ["make", "--dry-run", target]
        case [".venv/bin/python", "-m", "client.example", *arguments]:
            return [sys.executable, "-m", "client.example", "--base-url", stack.base_url, *arguments]
        case ["curl", *arguments]:
            return ["curl", "--fail", "--silent", "--show-error", *arguments]
        case unknown:
            raise AssertionError(f"the README has a command that this test does not know: {unknown}")


@pytest.mark.parametrize("command", COMMANDS)
def test_readme_command_has_its_documented_result(stack: Stack, command: str) -> None:
    done = subprocess.run(here(command, stack), cwd=ROOT, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    expected = {"make up": "imagepipe up --sample", "make test": "pytest tests"}.get(command, "image_id")
    if "client.example" in command:
        expected = "sample.jpg"
    assert expected in done.stdout


def test_readme_commands_are_found() -> None:
    assert len(COMMANDS) >= 5
