"""The result of a suite: a table for people, and `latest.json` for the plots and the documentation."""

import json
import subprocess
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from bench.figures import MAX_FLOOR_SPREAD, Aim, Figure, spread
from bench.machine import MAX_STEAL, Conditions

RESULTS = Path(__file__).with_name("results")
LATEST = RESULTS / "latest.json"
MIN_ROUNDS = 3
"""With fewer there is no median, and the floor cannot show that it was disturbed."""
NO_AIM = "–"


@dataclass(frozen=True)
class Report:
    """The figures of one suite, and the machine while they were measured."""

    suite: str
    rounds: int
    conditions: Conditions
    figures: Sequence[Figure]

    @property
    def objections(self) -> list[str]:
        """Why the run is not a result; empty if it is one."""
        found = [
            f"the floor of {figure.name} varies by {spread(figure.floors):.0%}, more than {MAX_FLOOR_SPREAD:.0%}"
            for figure in self.figures
            if not figure.is_steady
        ]
        if self.rounds < MIN_ROUNDS:
            found.insert(0, f"it had {self.rounds} rounds, fewer than {MIN_ROUNDS}")
        if not self.conditions.is_quiet:
            found.insert(0, f"the host took {self.conditions.steal:.0%} of the CPU time, more than {MAX_STEAL:.0%}")
        return found

    def document(self) -> dict[str, Any]:
        """As JSON types. `is_result` is false if other work disturbed the run."""
        return {
            "measured_at": datetime.now(UTC).isoformat(timespec="seconds"),
            "commit": commit(),
            "rounds": self.rounds,
            "is_result": not self.objections,
            "objections": self.objections,
            "machine": self.conditions.document(),
            "figures": [_figure(figure) for figure in self.figures],
        }


def commit() -> str | None:
    """The commit that is measured, with `-dirty` if files differ from it; None outside of a repository."""
    try:
        argv = ["git", "describe", "--always", "--dirty"]
        return subprocess.run(argv, cwd=RESULTS.parent, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return None


def _figure(figure: Figure) -> dict[str, Any]:
    return {
        "name": figure.name,
        "unit": figure.unit,
        "value": figure.value,
        "values": list(figure.values),
        "spread": spread(figure.values),
        "floor_name": figure.floor_name,
        "floor": figure.floor,
        "floors": list(figure.floors),
        "floor_spread": spread(figure.floors),
        "ratio": figure.ratio,
        "aim": asdict(figure.aim) if figure.aim else None,
        "is_met": figure.is_met,
        "parts": dict(figure.parts),
    }


def save(report: Report) -> None:
    """Replace the report of this suite in `latest.json`. The reports of other suites stay."""
    RESULTS.mkdir(exist_ok=True)
    suites = load()
    suites[report.suite] = rounded(report.document())
    LATEST.write_text(json.dumps(suites, indent=2) + "\n")


def load(file: Path = LATEST) -> dict[str, Any]:
    """The last report of each suite; empty if there is no file."""
    found: dict[str, Any] = json.loads(file.read_text()) if file.exists() else {}
    return found


def rounded(value: Any) -> Any:
    """The same JSON value with four significant digits in each number: more would not be repeatable."""
    if isinstance(value, float):
        return float(f"{value:.4g}")
    if isinstance(value, dict):
        return {name: rounded(each) for name, each in value.items()}
    return [rounded(each) for each in value] if isinstance(value, list) else value


def print_table(reports: Sequence[Report], console: Console) -> None:
    """Print all figures, and why a run is not a result."""
    table = Table("figure", "value", "floor", "", "ratio", "aim", "met", highlight=False)
    for report in reports:
        for figure in report.figures:
            table.add_row(
                figure.name,
                f"{_number(figure.value)} {figure.unit} ±{spread(figure.values) / 2:.0%}",
                f"{_number(figure.floor)} ±{spread(figure.floors) / 2:.0%}",
                figure.floor_name,
                f"{figure.ratio:.2f}",
                aim_text(figure.aim, figure.unit),
                verdict(figure),
            )
        table.add_section()
    console.print(table)
    for report in reports:
        machine = report.conditions
        console.print(
            f"{report.suite}: {report.rounds} rounds in {machine.seconds:.0f} s on {machine.cores} cores "
            f"({machine.processor}), steal {machine.steal:.0%}, load before {machine.load:.1f}"
        )
        for objection in report.objections:
            console.print(f"  ✗ not a result: {objection}")


def verdict(figure: Figure) -> str:
    """Whether the aim is met; no verdict without an aim, and if the floor was not steady."""
    if figure.aim is None:
        return NO_AIM
    if not figure.is_steady:
        return "unsteady"
    return "yes" if figure.is_met else "no"


def aim_text(aim: Aim | None, unit: str) -> str:
    """The aim as words."""
    if aim is None:
        return NO_AIM
    sign = "≤" if aim.kind == "at most" else "≥"
    return f"{sign} {aim.bound:g}" if aim.of == "ratio" else f"{sign} {aim.bound:,g} {unit}"


def _number(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"
