"""The README keeps its order, and names what exists."""

import re
import shlex
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text()
SECTIONS = [
    "The task",
    "Functional requirements",
    "Technologies",
    "Additional requirements and optimisations",
    "Project structure",
]


def test_the_sections_are_in_the_order_that_was_asked() -> None:
    assert re.findall(r"^## (.+)$", README, re.MULTILINE) == SECTIONS


def test_the_first_screen_runs_and_tests() -> None:
    first = README.split("\n## ")[0]
    assert "make up" in first
    assert "make test" in first


@pytest.mark.parametrize("link", sorted(set(re.findall(r"\]\(([^)#:]+)\)", README))))
def test_every_link_leads_somewhere(link: str) -> None:
    assert (ROOT / link).exists(), link


def commands() -> list[list[str]]:
    blocks = re.findall(r"```sh\n(.*?)```", README, re.DOTALL)
    return [shlex.split(line) for block in blocks for line in block.splitlines() if line.strip()]


@pytest.mark.parametrize("command", commands(), ids=" ".join)
def test_every_command_is_one_that_the_other_tests_run(command: list[str]) -> None:
    """Integration tests run what is behind each: make's targets, the example client, curl's requests."""
    match command:
        case ["make", target]:
            assert re.search(rf"^{target}:.*## ", (ROOT / "Makefile").read_text(), re.MULTILINE)
        case ["curl", *arguments]:
            assert "/images?user_id=1" in arguments[-1]
        case [".venv/bin/python", "-m", "client.example", verb, *_]:
            assert f'"{verb}"' in (ROOT / "client" / "example.py").read_text()
        case _:
            pytest.fail(f"the README has a command that no test knows: {command}")
