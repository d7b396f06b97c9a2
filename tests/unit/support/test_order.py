"""The order in which the workers of a run take the files of tests."""

from pathlib import Path

from tests.conftest import LONGEST

TESTS = Path(__file__).parents[2]


def test_the_files_that_come_first_exist() -> None:
    assert [name for name in LONGEST if not (TESTS / name).is_file()] == []
