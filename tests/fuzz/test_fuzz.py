"""Every harness holds for its seeds and for the corpus, and for 20 seconds of fuzzing."""

import importlib
import importlib.util
from pathlib import Path

import pytest

from tests.fuzz import HARNESSES, planted_error
from tests.fuzz.campaign import CORPUS, fuzz

SECONDS = 20

needs_fuzzer = pytest.mark.skipif(
    importlib.util.find_spec("atheris") is None,
    reason="The fuzzer has wheels for Linux on x86-64 with Python 3.11 to 3.14 only.",
)


@pytest.mark.parametrize("harness", HARNESSES)
def test_known_inputs(harness: str) -> None:
    module = importlib.import_module(f"tests.fuzz.{harness}")
    files = [path.read_bytes() for path in sorted((CORPUS / harness).iterdir())]
    assert files
    for data in [*module.seeds(), *files]:
        module.check(data)


@needs_fuzzer
def test_new_inputs(tmp_path: Path) -> None:
    for outcome in fuzz(SECONDS, tmp_path):
        assert outcome.failure is None, f"{outcome.harness}: {outcome.failure}"
        assert outcome.executions > len(list((CORPUS / outcome.harness).iterdir()))


@needs_fuzzer
def test_planted_error_is_found_and_reported_with_its_input(tmp_path: Path) -> None:
    (outcome,) = fuzz(60, tmp_path, ("planted_error",))
    assert outcome.failure is not None
    assert "ValueError: the planted error" in outcome.failure
    assert Path(outcome.failure.splitlines()[-1]).read_bytes().startswith(planted_error.NEEDLE)
