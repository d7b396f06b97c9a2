"""A benchmark that has nothing to measure reports that in one sentence and ends with exit code 1.

Those that need neither engines nor a browser measure something small.
"""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

ROOT = Path(__file__).parents[3]
ON_A_STACK = ("beside", "hot_owner", "memory")
ON_ENGINES = ("lists",)
IN_A_BROWSER = ("page",)
ON_PHOTOS = ("frontier",)
ON_RESULTS = {"capacity"}
STARTS_ITS_OWN = {"__main__", "guarantees", "live_events"}
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
    assert (
        programs == {*ON_A_STACK, *ON_ENGINES, *IN_A_BROWSER, *ON_PHOTOS} | STARTS_ITS_OWN | NEEDS_NOTHING | ON_RESULTS
    )


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


@pytest.mark.parametrize("name", ON_PHOTOS)
def test_without_photos(name: str, tmp_path: Path) -> None:
    assert f"{tmp_path} has no .jpeg, .jpg, .png, .webp" in benchmark(name, str(tmp_path))


def test_the_frontier_of_ladders_measures_each_method(tmp_path: Path) -> None:
    Image.effect_noise((160, 120), 60).convert("RGB").save(tmp_path / "noise.png")
    argv = [sys.executable, "-m", "bench.frontier", str(tmp_path), "--rounds", "1", "--output", str(tmp_path)]
    subprocess.run(argv, cwd=ROOT, capture_output=True, timeout=120, check=True)
    ladders = json.loads((tmp_path / "frontier.json").read_text())["candidates"]
    assert (tmp_path / "frontier.png").stat().st_size > 0
    assert [each["preset"] for each in ladders if each["preset"]] == ["fast", "default"]
    default = next(each for each in ladders if each["preset"] == "default")
    assert (default["rate"], default["bytes"]) == (1, 1)
    fast = [each for each in ladders if each["method"] == 2]
    assert [each["name"] for each in fast] == ["method 2", "method 2, quality +2", "method 2, quality +4"]
    for name in ("full", "large", "medium", "small"):
        # More quality brings the pixels closer to those of the original, in more bytes.
        assert fast[0]["ssim"][name] < fast[2]["ssim"][name] < 1
    assert fast[0]["bytes"] < fast[1]["bytes"] < fast[2]["bytes"]


def test_a_simulation_of_capacity_loads_the_processors_as_asked(tmp_path: Path) -> None:
    """500 images a minute with the costs of these results: 1.5 s of rendering and 0.1 s of the processor's own work."""
    others = {"processor": 100, "gateway": 50}
    suites = {
        "pipeline": {
            "machine": {"cores": 2},
            "figures": [
                {"name": "pipeline, 20 photos", "value": 1.0},
                {"name": "CPU of an image besides rendering", "value": 150, "parts": others},
                {"name": "render processes alone", "value": 2 / 1.5},
            ],
        },
        "index": {
            "figures": [{"name": name, "value": 1} for name in ("indexer", "rebuild", "replay of finished commands")]
        },
    }
    results, output = tmp_path / "latest.json", tmp_path / "capacity.json"
    results.write_text(json.dumps(suites))
    argv = [sys.executable, "-m", "bench.capacity", "--rate", "5", "--seconds", "600", "--owners", "2000"]
    argv += ["--results", str(results), "--output", str(output)]
    subprocess.run(argv, cwd=ROOT, capture_output=True, timeout=60, check=True)
    found = json.loads(output.read_text())
    # 5 images/s of 1.6 s keep 8 render processes busy. At 60 % that is 14, in processors of four.
    assert found["processors"] == 4
    equal = {each["partitions"]: each for each in found["outcomes"] if each["exponent"] == 0}
    skewed = {each["partitions"]: each for each in found["outcomes"] if each["exponent"] == 1}
    assert equal[256]["utilisation"] == pytest.approx(0.5, abs=0.05)
    assert equal[256]["busiest"] - equal[256]["idlest"] < 0.2 < skewed[256]["busiest"] - skewed[256]["idlest"]
    assert all(each["p99"] > each["p50"] >= 1 for each in found["outcomes"])
    assert equal[256]["largest_lag"] < equal[4]["largest_lag"]
    # 20 photos of 1.65 s on two cores that are never idle but at the end.
    assert 1.0 < found["check"]["simulated"] <= 2 / 1.65
    assert found["check"]["error"] == pytest.approx(found["check"]["simulated"] - 1, abs=1e-3)


def test_a_simulation_without_results_is_refused(tmp_path: Path) -> None:
    said = benchmark("capacity", "--results", str(tmp_path / "none.json"))
    assert "run `make bench`" in said
