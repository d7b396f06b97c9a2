"""The README keeps its order, and names what exists."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
README = (ROOT / "README.md").read_text()
SECTIONS = [
    "The task",
    "Functional requirements",
    "Technologies",
    "Additional requirements and optimisations",
    "Project structure",
]


def test_readme_has_its_sections_in_the_required_order() -> None:
    assert re.findall(r"^## (.+)$", README, re.MULTILINE) == SECTIONS


def test_readme_starts_with_the_commands_to_run_and_test() -> None:
    first = README.split("\n## ")[0]
    assert "make up" in first
    assert "make test" in first


@pytest.mark.parametrize("link", sorted(set(re.findall(r"\]\(([^)#:]+)\)", README))))
def test_every_link_of_the_readme_has_a_target(link: str) -> None:
    assert (ROOT / link).exists(), link
