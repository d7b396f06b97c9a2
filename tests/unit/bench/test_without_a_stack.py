"""A benchmark that has nothing to measure reports that in one sentence and ends with exit code 1."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
ON_A_STACK = ("beside", "hot_owner", "memory")
ON_ENGINES = ("lists",)
IN_A_BROWSER = ("page",)
STARTS_ITS_OWN = {"__main__", "live_events"}
NEEDS_NOTHING = {"formats"}


def benchmark(name: str, *arguments: str, **environment: str) -> str:
    """What it says on stderr."""
    result = subprocess.run(
        [sys.executable, "-m", f"bench.{name}", *arguments],
        cwd=ROOT, env=os.environ | environment, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert (result.returncode, result.stdout) == (1, ""), result.stderr
    assert result.stderr.count("\n") == 1, result.stderr
    return result.stderr


def test_every_benchmark_is_tested() -> None:
    programs = {path.stem for path in (ROOT / "bench").glob("*.py") if '__name__ == "__main__"' in path.read_text()}
    assert programs == {*ON_A_STACK, *ON_ENGINES, *IN_A_BROWSER} | STARTS_ITS_OWN | NEEDS_NOTHING


@pytest.mark.parametrize("name", ON_A_STACK)
def test_without_a_stack(name: str, tmp_path: Path) -> None:
    said = benchmark(name, "--root", str(tmp_path))
    assert f"start it with `imagepipe up --root {tmp_path}`" in said


@pytest.mark.parametrize("name", ON_ENGINES)
def test_without_engines(name: str) -> None:
    said = benchmark(name, KAFKA_BOOTSTRAP_SERVERS="127.0.0.1:1", CASSANDRA_PORT="1")
    assert "nothing listens at 127.0.0.1:1:" in said


@pytest.mark.parametrize("name", IN_A_BROWSER)
def test_without_a_browser(name: str, tmp_path: Path) -> None:
    assert "There is no Chromium on this machine" in benchmark(name, PATH=str(tmp_path))
