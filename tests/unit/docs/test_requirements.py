"""The page of requirements names tests that exist."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
PAGE = (ROOT / "docs" / "requirements.md").read_text()
NAMED = sorted(set(re.findall(r"`(tests/[\w/]+\.py)::(\w+)`", PAGE)))


@pytest.mark.parametrize(("file", "test"), NAMED)
def test_every_named_test_exists(file: str, test: str) -> None:
    assert re.search(rf"^(async )?def {test}\(", (ROOT / file).read_text(), re.MULTILINE), f"{file} has no {test}"


def test_every_requirement_has_a_row() -> None:
    rows = re.findall(r"^\| ([AB]\d+) \|", PAGE, re.MULTILINE)
    assert rows == [f"A{number}" for number in range(1, 21)] + [f"B{number}" for number in range(1, 16)]
