"""docs/configuration.md says what the settings are."""

import importlib.util
from pathlib import Path

import pytest

from shared.settings import Settings

DOCS = Path(__file__).parent.parent.parent / "docs"


@pytest.fixture(scope="module")
def page() -> str:
    spec = importlib.util.spec_from_file_location("make_configuration", DOCS / "make_configuration.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    written: str = module.page()
    return written


def test_the_page_is_not_stale(page: str) -> None:
    assert (DOCS / "configuration.md").read_text() == page, "run: python docs/make_configuration.py"


def test_every_setting_is_on_it_once(page: str) -> None:
    rows = [line.split("|")[1].strip(" `") for line in page.splitlines() if line.startswith("| `")]
    assert sorted(rows) == sorted(name.upper() for name in Settings.model_fields)


def test_every_setting_says_why() -> None:
    assert [name for name, field in Settings.model_fields.items() if not field.description] == []
