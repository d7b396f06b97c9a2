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


def test_the_sections_are_in_the_order_that_was_asked() -> None:
    assert re.findall(r"^## (.+)$", README, re.MULTILINE) == SECTIONS


def test_the_first_screen_runs_and_tests() -> None:
    first = README.split("\n## ")[0]
    assert "make up" in first
    assert "make test" in first


@pytest.mark.parametrize("link", sorted(set(re.findall(r"\]\(([^)#:]+)\)", README))))
def test_every_link_leads_somewhere(link: str) -> None:
    assert (ROOT / link).exists(), link
