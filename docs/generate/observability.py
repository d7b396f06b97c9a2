"""Writes the tables of docs/observability.md from metrics and alerts: `python -m docs.generate.observability`."""

import re
from pathlib import Path
from typing import Any

import yaml

from shared.observability.metrics import CATALOGUE, EVERY, Metric

ROOT = Path(__file__).parents[2]
TARGET = ROOT / "docs" / "observability.md"
ALERTS = ROOT / "deploy" / "prometheus" / "alerts.yml"


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


def _labels(metric: Metric) -> str:
    known = f": {', '.join(metric.values)}" if metric.values else ""
    return ", ".join(f"`{label}`" for label in metric.labels) + known


def _kind(metric: Metric) -> str:
    buckets = f" to {metric.buckets[-1]:g}" if metric.buckets else ""
    return f"{metric.kind}{buckets}"


def metrics_table() -> str:
    """Every metric: name, kind, labels, meaning, with a heading for each set of services that expose it."""
    lines = []
    for services in dict.fromkeys(metric.services for metric in CATALOGUE):
        names = "Every service" if services == EVERY else " and ".join(services).capitalize()
        lines += [f"**{names}**", "", "| metric | kind | unit | labels | meaning |", "|---|---|---|---|---|"]
        lines += [
            f"| `{metric.name}` | {_kind(metric)} | {metric.unit} | {_labels(metric)} | {_cell(metric.meaning)} |"
            for metric in CATALOGUE
            if metric.services == services
        ]
        lines.append("")
    return "\n".join(lines)


def alerts_table() -> str:
    """Every alert: name, severity, what it says, after how long, and its runbook."""
    lines = ["| alert | severity | message | after | what to do |", "|---|---|---|---|---|"]
    rules: list[dict[str, Any]] = [
        rule for group in yaml.safe_load(ALERTS.read_text())["groups"] for rule in group["rules"]
    ]
    for rule in rules:
        summary = re.sub(r"\{\{ \$(?:labels\.)?(\w+)[^}]*\}\}", r"*\1*", rule["annotations"]["summary"])
        page = Path(rule["annotations"]["runbook"])
        link = f"[{page.stem.replace('-', ' ')}](runbooks/{page.name})"
        severity, after = rule["labels"]["severity"], rule.get("for", "at once")
        lines.append(f"| `{rule['alert']}` | {severity} | {_cell(summary)} | {after} | {link} |")
    return "\n".join([*lines, ""])


def filled(text: str) -> str:
    """The page with both tables as they must be."""
    for name, table in {"metrics": metrics_table(), "alerts": alerts_table()}.items():
        begin, end = f"<!-- {name}: written by docs/generate/observability.py -->\n", f"<!-- end of {name} -->\n"
        before, _, rest = text.partition(begin)
        _, _, after = rest.partition(end)
        text = f"{before}{begin}\n{table}\n{end}{after}"
    return text


if __name__ == "__main__":
    TARGET.write_text(filled(TARGET.read_text()))
