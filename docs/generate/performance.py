"""Writes the figures of `bench/results/latest.json` into docs/performance.md: `python -m docs.generate.performance`."""

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "performance.md"
RESULTS = ROOT / "bench" / "results"
BEGIN, END = "<!-- figures -->\n", "<!-- end of figures -->"
NOTHING = "There is no run on a quiet machine yet: `make bench` writes its figures here.\n"
PLOTS = {"aims.png": "The share of its aim that each figure reaches", "cpu.png": "CPU time by process"}
HEAD = "| figure | value | floor | ratio | aim | met |\n|---|---|---|---|---|---|"


def figures(suites: Mapping[str, Any]) -> str:
    """The text between the marks: a table for each suite, with the machine that measured it."""
    if not suites:
        return NOTHING
    parts = [_suite(name, report) for name, report in suites.items()]
    plots = [f"![{title}](../bench/results/{name})" for name, title in PLOTS.items() if (RESULTS / name).exists()]
    return "\n\n".join([*parts, *plots]) + "\n"


def _suite(name: str, report: Mapping[str, Any]) -> str:
    machine = report["machine"]
    lines = [
        f"### {name.capitalize()}",
        "",
        f"{report['rounds']} rounds on {report['measured_at'][:10]}, commit {report['commit']}, {machine['cores']} "
        f"cores ({machine['processor']}), steal {machine['steal']:.0%}, load before the run {machine['load']:.1f}.",
        "",
        *(f"**Not a result:** {objection}.\n" for objection in report["objections"]),
        HEAD,
        *(_row(figure) for figure in report["figures"]),
    ]
    return "\n".join([*lines, *_parts(report["figures"])])


def _row(figure: Mapping[str, Any]) -> str:
    value = f"{_number(figure['value'])} {figure['unit']} ±{figure['spread'] / 2:.0%}"
    floor = f"{_number(figure['floor'])} ±{figure['floor_spread'] / 2:.0%}, {figure['floor_name']}"
    aim, met = figure["aim"], "yes" if figure["is_met"] else "**no**"
    sign = "≤" if aim["kind"] == "at most" else "≥"
    bound = f"{sign} {aim['bound']:g}" + ("" if aim["of"] == "ratio" else f" {figure['unit']}")
    return f"| {figure['name']} | {value} | {floor} | {figure['ratio']:.2f} | {bound} | {met} |"


def _parts(figures: list[Mapping[str, Any]]) -> list[str]:
    lines = []
    for figure in figures:
        if figure["parts"]:
            parts = sorted(figure["parts"].items(), key=lambda part: -part[1])
            split = ", ".join(f"{name} {_number(value)}" for name, value in parts)
            lines += ["", f"{figure['name']}, in {figure['unit']}: {split}."]
    return lines


def _number(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def page(text: str, suites: Mapping[str, Any]) -> str:
    """The page with these figures between its marks."""
    between = re.compile(f"(?<={re.escape(BEGIN)}).*(?={re.escape(END)})", re.DOTALL)
    return between.sub(lambda _: figures(suites), text)


def latest() -> dict[str, Any]:
    """The last report of each suite; empty without a run."""
    file = RESULTS / "latest.json"
    found: dict[str, Any] = json.loads(file.read_text()) if file.exists() else {}
    return found


if __name__ == "__main__":
    PAGE.write_text(page(PAGE.read_text(), latest()))
