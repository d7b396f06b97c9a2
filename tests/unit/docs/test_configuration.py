"""docs/configuration.md has the current settings."""

from pathlib import Path

import pytest

from docs.generate import configuration
from shared.settings import Settings

DOCS = Path(__file__).parents[3] / "docs"


@pytest.fixture(scope="module")
def page() -> str:
    return configuration.page()


def test_configuration_page_is_current(page: str) -> None:
    assert (DOCS / "configuration.md").read_text() == page, "run: make docs"


def test_configuration_page_has_every_setting_once(page: str) -> None:
    rows = [line.split("|")[1].strip(" `") for line in page.splitlines() if line.startswith("| `")]
    assert sorted(rows) == sorted(name.upper() for name in Settings.model_fields)


def test_every_setting_has_a_description() -> None:
    assert [name for name, field in Settings.model_fields.items() if not field.description] == []
