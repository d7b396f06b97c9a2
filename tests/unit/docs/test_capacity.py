"""docs/capacity.md states what the last committed run of the suite and of the simulation say."""

import re
from typing import Any

import pytest

from docs.generate.capacity import PAGE, page, results, tables


def _figure(name: str, value: float, **parts: float) -> dict[str, Any]:
    return {"name": name, "value": value, "parts": parts}


SUITES = {
    "pipeline": {
        "machine": {"cores": 3},
        "figures": [
            _figure("pipeline, 20 photos", 1.0),
            _figure(
                "CPU of an image besides rendering", 269, gateway=20, kafka=10, cassandra=40, processor=100, idle=99
            ),
            _figure("render processes alone", 2.0),
        ],
    },
    "index": {
        "machine": {"cores": 3},
        "figures": [
            _figure("rebuild", 3_000), _figure("indexer", 1_000), _figure("replay of finished commands", 2_000),
        ],
    },
}  # fmt: skip
"""Three cores render two images a second, so an image takes 1.5 core seconds, and 0.17 for the rest. Idle time is no
cost of an image."""
LADDERS = {"candidates": [{"preset": "default", "photos": {"Dune": {"sizes": {"full": 300_000, "small": 100_000}}}}]}
SIMULATED = {
    "rate": 10.0, "owners": 100, "seconds": 3600.0, "processors": 7, "workers": 4,
    "check": {"measured": 1.0, "simulated": 1.1, "error": 0.1},
    "outcomes": [
        {
            "partitions": 8, "exponent": 0.5, "utilisation": 0.6, "busiest": 1.01, "idlest": 0.4, "p50": 1.54,
            "p99": 74.0, "largest_lag": 1725,
        }
    ],
}  # fmt: skip


def test_the_page_has_the_figures_of_the_last_run() -> None:
    text = PAGE.read_text()
    assert page(text, results()) == text, "run `python -m docs.generate.capacity`"


def test_a_million_images_cost_the_measured_seconds_with_all_copies() -> None:
    costs = tables(SUITES, LADDERS, SIMULATED)["costs"]
    assert "| rendering | 1,500 ms | 417 core hours |" in costs
    assert "| Cassandra, 3 copies | 40 ms | 33 core hours |" in costs
    # One image costs 1.67 s; with three copies of Kafka's and Cassandra's part 1.77 s.
    assert "| all CPU time | 1,670 ms | **492 core hours** |" in costs
    assert re.search(r"\| bucket \| 1\.50 MB in 7 objects \| 1\.5 TB \|", costs)
    kilobytes, gigabytes = map(float, re.findall(r"\| log \| ([\d.]+) KB in 2 records \| ([\d.]+) GB \|", costs)[0])
    assert gigabytes == pytest.approx(3 * kilobytes, rel=0.02)


def test_processors_carry_the_rate_at_the_stated_utilisation() -> None:
    """1.6 core seconds of an image on processors of 16 cores that are busy to 60 %: six images a second for each."""
    levels = tables(SUITES, LADDERS, SIMULATED)["levels"]
    assert "| nodes of 16 cores for processors | 2 | 167 | 16,667 |" in levels
    assert "| cores: rendering | 25 | 2,500 | 250,000 |" in levels
    # Eight for each processor or more, as a power of two.
    assert "| partitions of each topic | 16 | 2,048 | 262,144 |" in levels
    assert "| indexer processes | 2 | 4 | 334 |" in levels
    assert "| brokers | 3 | 4 | 313 |" in levels


def test_what_breaks_first_follows_from_the_rates_of_one_process() -> None:
    limits = tables(SUITES, LADDERS, SIMULATED)["limits"]
    assert "| one processor | 10 images/s | its own event loop; enough for 15 render processes |" in limits
    assert "| one indexer | 500 images/s | 1,000 records/s, 2 for each image |" in limits
    assert "| `imagepipe reindex` | 1,500 images/s |" in limits
    assert "0.2 hours at 10 images/s and 16.0 hours at 1,000 images/s" in limits


def test_the_simulation_is_shown_with_its_error() -> None:
    text = tables(SUITES, LADDERS, SIMULATED)["simulation"]
    assert "| 0.5 | 8 | 60% | 101% | 40% | 1.5 s | 74.0 s | 1,725 |" in text
    assert "reached 1.00 images/s. The simulation gives 1.10 images/s, 10% more." in text
    assert "simulation" not in tables(SUITES, LADDERS, {})


def test_without_a_run_the_page_stays_as_it_is() -> None:
    assert tables({"pipeline": SUITES["pipeline"]}, LADDERS, SIMULATED) == {}
    assert page(PAGE.read_text(), {}) == PAGE.read_text()
