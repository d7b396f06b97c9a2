"""Plots of the results: how far each figure is from its aim, where CPU time goes, and the frontier of ladders."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import mean, median
from typing import Any

from matplotlib.figure import Figure as Canvas

from bench.report import RESULTS

MET, MISSED = "#2b8a3e", "#c92a2a"
HEIGHT, HEAD = 0.32, 1.2
"""Inches of one bar, and of title and axis."""
AIMS, CPU = RESULTS / "aims.png", RESULTS / "cpu.png"
MAX_SHOWN = 3.0
"""Times of the aim. Longer bars are cut off, so that the others can be compared."""


def draw(suites: Mapping[str, Any]) -> list[Path]:
    """Write the plots of these reports; returns their files."""
    figures = [figure for report in suites.values() for figure in report["figures"]]
    written = [
        _draw_aims(
            [figure for figure in figures if figure["aim"]], all(report["is_result"] for report in suites.values())
        )
    ]
    split = [figure for figure in figures if figure["parts"]]
    return [*written, _draw_cpu(split)] if split else written


def _draw_aims(figures: Sequence[Mapping[str, Any]], is_result: bool) -> Path:
    """One bar for each figure with an aim: its value as a multiple of its aim, so that longer is always better."""
    canvas = Canvas(figsize=(9, HEAD + HEIGHT * len(figures)), layout="constrained")
    axes = canvas.subplots()
    shares = [reached(figure) for figure in figures]
    axes.barh(
        [figure["name"] for figure in figures],
        [min(share, MAX_SHOWN) for share in shares],
        color=[MET if figure["is_met"] else MISSED for figure in figures],
    )
    for row, share in enumerate(shares):
        axes.annotate(f" {share:.2f}", (min(share, MAX_SHOWN), row), va="center", fontsize=8)
    axes.axvline(1, color="black", linewidth=1)
    axes.invert_yaxis()
    axes.set_xlim(0, MAX_SHOWN * 1.1)
    axes.set_xlabel("share of the aim that is reached; 1 and more is met")
    axes.set_title("Figures against their aims" + ("" if is_result else " (no result: the machine was disturbed)"))
    canvas.savefig(AIMS, dpi=110)
    return AIMS


def reached(figure: Mapping[str, Any]) -> float:
    """The share of the aim that a figure reaches: 1 where it is just met, 0.5 where it is missed by a factor of two."""
    aim = figure["aim"]
    measured = figure["ratio"] if aim["of"] == "ratio" else figure["value"]
    return float(measured / aim["bound"] if aim["kind"] == "at least" else aim["bound"] / measured)


def _draw_cpu(figures: Sequence[Mapping[str, Any]]) -> Path:
    """One bar for each figure with parts, divided by process."""
    canvas = Canvas(figsize=(9, 1.5 * HEAD + 2 * HEIGHT * len(figures)), layout="constrained")
    axes = canvas.subplots()
    names = [figure["name"] for figure in figures]
    left = [0.0] * len(figures)
    for part in sorted({part for figure in figures for part in figure["parts"]}):
        widths = [figure["parts"].get(part, 0.0) for figure in figures]
        axes.barh(names, widths, left=left, label=part, height=0.6)
        left = [start + width for start, width in zip(left, widths, strict=True)]
    axes.invert_yaxis()
    axes.set_xlabel("milliseconds of CPU time")
    axes.set_title("CPU time by process")
    canvas.legend(loc="outside lower center", ncols=7, fontsize=8)
    canvas.savefig(CPU, dpi=110)
    return CPU


def draw_frontier(ladders: Sequence[Mapping[str, Any]], file: Path) -> None:
    """Plot bytes over similarity: a line for each WebP method, from low to high quality, with marks at the presets.

    The legend has the rate of each method. Lower and further to the right is better.
    """
    canvas = Canvas(figsize=(8, 5), layout="constrained")
    axes = canvas.subplots()
    for method in range(7):
        line = [each for each in ladders if each["method"] == method]
        label = f"method {method}: {median(each['rate'] for each in line):.2f} times the rate"
        axes.plot(*_points(line), marker="o", label=label)
    for preset, marker in (("default", "s"), ("fast", "*")):
        chosen = [each for each in ladders if each["preset"] == preset]
        axes.plot(*_points(chosen), marker=marker, markersize=13, color="black", linestyle="", label=preset)
    axes.set_xlabel("mean SSIM of the variants")
    axes.set_ylabel("bytes, relative to the default ladder (method 4)")
    axes.grid(alpha=0.3)
    axes.legend(fontsize=8)
    canvas.savefig(file, dpi=80)


def _points(ladders: Sequence[Mapping[str, Any]]) -> tuple[list[float], list[float]]:
    return [mean(each["ssim"].values()) for each in ladders], [each["bytes"] for each in ladders]
