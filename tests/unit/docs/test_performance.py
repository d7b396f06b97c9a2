"""docs/performance.md shows the figures of the last run that is committed."""

from typing import Any

from docs.generate.performance import PAGE, figures, frontier, guarantees, latest, page, result

REPORT: dict[str, Any] = {
    "measured_at": "2026-11-26T20:00:00+00:00", "commit": "0123abc", "rounds": 3,
    "objections": ["the host took 12% of the CPU time, more than 10%"],
    "machine": {"cores": 2, "processor": "A CPU", "steal": 0.12, "load": 0.3},
    "figures": [
        {
            "name": "list of 50, cached", "unit": "requests/s", "value": 720.0, "spread": 0.1,
            "floor_name": "bare FastAPI", "floor": 4420.0, "floor_spread": 0.04, "ratio": 0.163,
            "aim": {"of": "ratio", "kind": "at least", "bound": 0.5}, "is_met": False, "parts": {},
        },
        {
            "name": "CPU of a POST", "unit": "ms", "value": 14.0, "spread": 0.1,
            "floor_name": "bare writes", "floor": 8.0, "floor_spread": 0.04, "ratio": 1.75,
            "aim": {"of": "value", "kind": "at most", "bound": 16}, "is_met": True,
            "parts": {"kafka": 3.6, "gateway": 10.4},
        },
        {
            "name": "DELETE, one client: p50", "unit": "ms", "value": 12.0, "spread": 0.1,
            "floor_name": "acked record", "floor": 2.0, "floor_spread": 0.04, "ratio": 6.0,
            "aim": None, "is_met": None, "parts": {},
        },
    ],
}  # fmt: skip
GUARANTEES, LADDERS = result("guarantees.json"), result("frontier.json")


def test_the_page_has_the_figures_of_the_last_run() -> None:
    text = PAGE.read_text()
    assert page(text, latest(), GUARANTEES, LADDERS) == text, "run `python -m docs.generate.performance`"


def test_a_missed_aim_and_a_disturbed_run_are_shown_as_such() -> None:
    text = figures({"gateway": REPORT})
    assert "| list of 50, cached | 720 requests/s ±5% | 4,420 ±2%, bare FastAPI | 0.16 | ≥ 0.5 | **no** |" in text
    assert "| CPU of a POST | 14 ms ±5% | 8 ±2%, bare writes | 1.75 | ≤ 16 ms | yes |" in text
    assert "| DELETE, one client: p50 | 12 ms ±5% | 2 ±2%, acked record | 6.00 | – | – |" in text
    assert "CPU of a POST, in ms: gateway 10.4, kafka 3.6." in text
    assert "**Not a result:** the host took 12% of the CPU time, more than 10%." in text


def test_new_figures_replace_the_old_ones() -> None:
    text = PAGE.read_text()
    assert page(page(text, {"gateway": REPORT}, GUARANTEES, LADDERS), latest(), GUARANTEES, LADDERS) == text


def test_the_guarantees_state_what_each_adds_to_the_write_without_it() -> None:
    found: dict[str, Any] = {
        "measured_at": "2026-11-27T08:00:00+00:00", "commit": "0123abc", "rounds": 5, "requests": 150,
        "machine": {"cores": 2, "processor": "A CPU", "steal": 0.0, "load": 3.2},
        "writes": [{"name": "PUT", "p50_ms": 15.2, "cpu_ms": {"cassandra": 4.0, "gateway": 5.5}}],
        "guarantees": [
            {
                "name": "PUT with `If-Match`", "without": "PUT", "p50_ms": 6.54,
                "cpu_ms": {"gateway": 1.0, "cassandra": 3.04, "s3": -0.06},
            },
            {"name": "a read", "without": None, "p50_ms": 1.0, "cpu_ms": {"cassandra": 0.4}},
        ],
    }  # fmt: skip
    text = guarantees(found)
    assert "| PUT | 15.2 ms | 9.5 ms | gateway 5.5, cassandra 4 |" in text
    assert "| PUT with `If-Match` | PUT | +6.5 ms | +4.0 ms | cassandra +3.0, gateway +1.0, s3 -0.1 |" in text
    assert "| a read | – | +1.0 ms | +0.4 ms | cassandra +0.4 |" in text
    assert "Other work ran (load 3.2 before the run)." in text
    found["machine"]["load"] = 0.2
    assert "Other work ran" not in guarantees(found)


def test_the_frontier_states_the_bytes_of_a_method_at_the_similarity_of_the_default() -> None:
    def entry(name: str, method: int, preset: str | None, rate: float, size: float, ssim: float) -> dict[str, Any]:
        return {
            "name": name, "method": method, "preset": preset, "rate": rate, "bytes": size, "ssim": {"full": ssim},
            "photos": {"Dune": {}},
        }  # fmt: skip

    text = frontier(
        {
            "measured_at": "2026-11-27T08:00:00+00:00",
            "rounds": 3,
            "candidates": [
                entry("method 2", 2, "fast", 1.8, 1.04, 0.970),
                entry("method 2, quality +2", 2, None, 1.8, 1.16, 0.976),
                entry("method 4", 4, "default", 1.0, 1.0, 0.973),
                entry("method 6", 6, None, 0.6, 0.97, 0.972),
            ],
        }
    )
    assert "| method 2 (`fast`) | 1.80 | +4.0% | 0.9700 |" in text
    assert "between the rows of a method: method 2 +10%.\n" in text
    assert "Photos: Dune. Rounds: 3. Day: 2026-11-27." in text
