"""Which tests docs/requirements.md names."""

import re
from pathlib import Path

PAGE = Path(__file__).parents[2] / "docs" / "requirements.md"
NAMED = frozenset(re.findall(r"`(tests/[\w/]+\.py)::(\w+)`", PAGE.read_text()))
"""File and function of each test that a row names."""
REQUIRED = frozenset(each for each in NAMED if not each[0].startswith("tests/browser/"))
"""Those that CI may not skip. The tests in a browser are skipped where there is no Chromium."""


def is_required(node_id: str) -> bool:
    """Whether CI may not skip this test, in pytest's notation, with or without parameters."""
    file, _, test = node_id.partition("::")
    return (file, test.split("[")[0]) in REQUIRED
