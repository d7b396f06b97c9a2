"""Writes the figures of `bench/results/` into docs/performance.md: `python -m docs.generate.performance`.

`latest.json` has those of the suite, `guarantees.json` those of the guarantees, `frontier.json` those of the ladders.
"""

import json
import re
from collections.abc import Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from statistics import mean
from typing import Any

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "performance.md"
RESULTS = ROOT / "bench" / "results"
BEGIN, END = "<!-- figures -->\n", "<!-- end of figures -->"
GUARANTEES_BEGIN, GUARANTEES_END = "<!-- guarantees -->\n", "<!-- end of guarantees -->"
FRONTIER_BEGIN, FRONTIER_END = "<!-- frontier -->\n", "<!-- end of frontier -->"
NOTHING = "There is no run on a quiet machine yet: `make bench` writes its figures here.\n"
NO_GUARANTEES = "There is no run yet: it writes its figures here, with `python -m docs.generate.performance`.\n"
PLOTS = {"aims.png": "The share of its aim that each figure reaches", "cpu.png": "CPU time by process"}
QUIET_LOAD = 0.5
"""Above it other work ran: see `bench.machine.Conditions`."""
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
    return f"| {figure['name']} | {value} | {floor} | {figure['ratio']:.2f} | {_aim(figure)} |"


def _aim(figure: Mapping[str, Any]) -> str:
    """The cells of the aim and whether it is met."""
    aim = figure["aim"]
    if aim is None:
        return "– | –"
    sign = "≤" if aim["kind"] == "at most" else "≥"
    unit = "" if aim["of"] == "ratio" else f" {figure['unit']}"
    return f"{sign} {aim['bound']:g}{unit} | {'yes' if figure['is_met'] else '**no**'}"


def _parts(figures: list[Mapping[str, Any]]) -> list[str]:
    lines = []
    for figure in figures:
        if figure["parts"]:
            lines += ["", f"{figure['name']}, in {figure['unit']}: {_split(figure['parts'])}."]
    return lines


def _number(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def guarantees(found: Mapping[str, Any]) -> str:
    """The table of what each guarantee of a write adds, and of the writes without it."""
    if not found:
        return NO_GUARANTEES
    machine = found["machine"]
    beside = f" Other work ran (load {machine['load']:.1f} before the run)." if machine["load"] > QUIET_LOAD else ""
    lines = [
        f"{found['rounds']} rounds of {found['requests']} requests of each kind on {found['measured_at'][:10]}, commit "
        f"{found['commit']}, {machine['cores']} cores ({machine['processor']}), steal {machine['steal']:.0%}.{beside}",
        "",
        "| write | p50 | CPU time | by process |\n|---|---|---|---|",
        *(
            f"| {each['name']} | {_number(each['p50_ms'])} ms | {_number(sum(each['cpu_ms'].values()))} ms | "
            f"{_split(each['cpu_ms'])} |"
            for each in found["writes"]
        ),
        "",
        "| with a guarantee | without | adds to p50 | adds to the CPU time | by process |\n|---|---|---|---|---|",
        *(_guarantee(each) for each in found["guarantees"]),
    ]
    return "\n".join(lines) + "\n"


def _guarantee(entry: Mapping[str, Any]) -> str:
    cells = (
        entry["name"],
        entry["without"] or "–",
        f"{_signed(entry['p50_ms'])} ms",
        f"{_signed(sum(entry['cpu_ms'].values()))} ms",
        ", ".join(f"{name} {_signed(value)}" for name, value in _largest_first(entry["cpu_ms"])),
    )
    return f"| {' | '.join(cells)} |"


def _split(cpu: Mapping[str, float]) -> str:
    return ", ".join(f"{name} {_number(value)}" for name, value in _largest_first(cpu))


def _largest_first(parts: Mapping[str, float]) -> list[tuple[str, float]]:
    return sorted(parts.items(), key=lambda part: -part[1])


def _signed(value: float) -> str:
    """A difference to a tenth: the CPU time of a process is counted in steps of 10 ms a run."""
    return f"{value:+.1f}"


def frontier(found: Mapping[str, Any]) -> str:
    """The table of ladders, with what each method costs at the SSIM of the default, and the plot."""
    ladders = found["candidates"]
    names = list(ladders[0]["ssim"])
    photos = list(ladders[0]["photos"])
    head = ["ladder", "rate", "bytes", *(f"SSIM `{name}`" for name in names)]
    lines = [
        f"Photos: {', '.join(photos)}. Rounds: {found['rounds']}. Day: {found['measured_at'][:10]}.",
        "",
        f"| {' | '.join(head)} |",
        "|---" * len(head) + "|",
        *(_ladder(each) for each in ladders),
        "",
        "Bytes at the mean SSIM of the default, interpolated between the rows of a method: "
        + ", ".join(f"method {method} {change:+.0%}" for method, change in _at_equal_similarity(ladders).items())
        + ".",
        "",
        "![Bytes and SSIM of the WebP methods](../bench/results/frontier.png)",
    ]
    return "\n".join(lines) + "\n"


def _ladder(entry: Mapping[str, Any]) -> str:
    name = entry["name"] + (f" (`{entry['preset']}`)" if entry["preset"] else "")
    similarities = (f"{value:.4f}" for value in entry["ssim"].values())
    cells = (name, f"{entry['rate']:.2f}", f"{entry['bytes'] - 1:+.1%}", *similarities)
    return f"| {' | '.join(cells)} |"


def _at_equal_similarity(ladders: Sequence[Mapping[str, Any]]) -> dict[int, float]:
    """Additional bytes of each method at the mean SSIM of the default, as a fraction, where its rows enclose it."""
    points: dict[int, list[tuple[float, float]]] = {}
    for each in ladders:
        points.setdefault(each["method"], []).append((_similarity(each), each["bytes"] - 1))
    wanted = next(_similarity(each) for each in ladders if each["preset"] == "default")
    found = {}
    for method, line in points.items():
        for (low, less), (high, more) in pairwise(line):
            if low <= wanted <= high:
                found[method] = less + (more - less) * (wanted - low) / (high - low)
    return found


def _similarity(entry: Mapping[str, Any]) -> float:
    return float(mean(entry["ssim"].values()))


def page(text: str, suites: Mapping[str, Any], added: Mapping[str, Any], ladders: Mapping[str, Any]) -> str:
    """The page with these figures between its marks."""
    text = between(text, BEGIN, END, figures(suites))
    text = between(text, GUARANTEES_BEGIN, GUARANTEES_END, guarantees(added))
    return between(text, FRONTIER_BEGIN, FRONTIER_END, frontier(ladders))


def between(text: str, begin: str, end: str, content: str) -> str:
    """The text with this content between two marks."""
    marked = re.compile(f"(?<={re.escape(begin)}).*(?={re.escape(end)})", re.DOTALL)
    return marked.sub(lambda _: content, text)


def latest() -> dict[str, Any]:
    """The last report of each suite; empty without a run."""
    return result("latest.json")


def result(name: str) -> dict[str, Any]:
    """A file of results; empty where it was not measured yet."""
    file = RESULTS / name
    found: dict[str, Any] = json.loads(file.read_text()) if file.exists() else {}
    return found


if __name__ == "__main__":
    PAGE.write_text(page(PAGE.read_text(), latest(), result("guarantees.json"), result("frontier.json")))
