"""The page of requirements names tests that exist."""

import re
from pathlib import Path

import pytest

from tests.support.requirements import NAMED, PAGE, REQUIRED, is_required

ROOT = Path(__file__).parents[3]
pytest_plugins = ["pytester"]


@pytest.mark.parametrize(("file", "test"), sorted(NAMED))
def test_every_named_test_exists(file: str, test: str) -> None:
    assert re.search(rf"^(async )?def {test}\(", (ROOT / file).read_text(), re.MULTILINE), f"{file} has no {test}"


def test_every_requirement_has_a_row() -> None:
    rows = re.findall(r"^\| ([AB]\d+) \|", PAGE.read_text(), re.MULTILINE)
    assert rows == [f"A{number}" for number in range(1, 21)] + [f"B{number}" for number in range(1, 16)]


def test_a_required_test_is_found_with_and_without_parameters() -> None:
    file, test = sorted(REQUIRED)[0]
    assert is_required(f"{file}::{test}")
    assert is_required(f"{file}::{test}[a::b]")
    assert not is_required(f"{file}::test_another")


def test_a_named_test_in_a_browser_may_be_skipped() -> None:
    in_browser = NAMED - REQUIRED
    assert in_browser
    assert {file.split("/")[1] for file, _ in in_browser} == {"browser"}


@pytest.mark.parametrize(("ci", "outcomes"), [("true", {"failed": 1, "skipped": 1}), ("", {"skipped": 2})])
def test_a_skipped_test_fails_in_ci_where_a_row_names_it(
    pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch, ci: str, outcomes: dict[str, int]
) -> None:
    file, test = sorted(REQUIRED)[0]
    skipped = "".join(f"def {name}():\n    __import__('pytest').skip('no tool')\n" for name in (test, "test_another"))
    pytester.path.joinpath(file).parent.mkdir(parents=True)
    pytester.path.joinpath(file).write_text(skipped)
    monkeypatch.setenv("CI", ci)
    # The other plugins take seconds to import.
    monkeypatch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")

    result = pytester.runpytest_subprocess("-p", "tests.support.ci", f"--rootdir={pytester.path}")

    result.assert_outcomes(**outcomes)
