"""Which tests docs/requirements.md names."""

import re
from pathlib import Path

PAGE = Path(__file__).parents[2] / "docs" / "requirements.md"
NAMED = frozenset(re.findall(r"`(tests/[\w/]+\.py)::(\w+)`", PAGE.read_text()))
"""File and function of each test that a row names."""


def is_named(node_id: str) -> bool:
    """Whether a row names this test, in pytest's notation, with or without parameters."""
    file, _, test = node_id.partition("::")
    return (file, test.split("[")[0]) in NAMED
