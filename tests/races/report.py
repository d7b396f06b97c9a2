"""The summary of a run of races: one row of a table for each rule and situation."""

from collections.abc import Iterable, Sequence

from tests.races.race import Finding

REFUSED = (409, 412)
HEADER = (
    "| race | situation | races | both acknowledged | one refused (409, 412) | broken | last seen broken |\n"
    "|---|---|---|---|---|---|---|"
)


def report(findings: Sequence[Finding]) -> str:
    """The table, and below it each race whose rule was broken."""
    groups: dict[tuple[str, str], list[Finding]] = {}
    for finding in findings:
        groups.setdefault((finding.name, finding.situation), []).append(finding)
    rows = [_row(name, situation, group) for (name, situation), group in sorted(groups.items())]
    return "\n".join((HEADER, *rows, *map(str, broken(findings))))


def broken(findings: Iterable[Finding]) -> list[Finding]:
    """The races whose rule was broken."""
    return [finding for finding in findings if finding.broken]


def _row(name: str, situation: str, group: Sequence[Finding]) -> str:
    both = sum(all(answer.is_success for answer in finding.answers) for finding in group)
    refused = sum(any(answer.status in REFUSED for answer in finding.answers) for finding in group)
    last = max((seconds for finding in group for seconds in finding.broken.values()), default=None)
    seen = "never" if last is None else f"{last:.1f} s"
    cells = (name, situation, len(group), both, refused, len(broken(group)), seen)
    return f"| {' | '.join(map(str, cells))} |"
