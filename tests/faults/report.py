"""The result of a fault run, and its row in the table of docs/fault-runs.md."""

import re
import statistics
import subprocess
from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.faults import checker
from tests.faults.checker import Violation
from tests.faults.history import Operation, Result
from tests.faults.nemesis import Fault

PAGE = Path(__file__).parents[2] / "docs" / "fault-runs.md"
HEADINGS = (
    "seed", "commit", "stack", "duration", "faults", "acknowledged", "lost", "duplicated", "out of order", "other",
    "recovery", "settled", "result",
)  # fmt: skip
LOST = {checker.LOST, checker.UNFINISHED, checker.NOT_KEPT, checker.UNREADABLE}
DUPLICATED = {checker.TWICE, checker.PHANTOM}
OUT_OF_ORDER = {checker.WRONG_CONTENT, checker.RESURRECTED, checker.DISORDERED}
TOTALS = re.compile(r"^\*\*Totals:\*\* .*$", re.MULTILINE)


@dataclass(frozen=True)
class Run:
    """One run. `settled_seconds`: from the end of the last fault until nothing was left to do; None if that failed."""

    seed: int
    commit: str
    cluster: bool
    seconds: float
    faults: Sequence[Fault]
    history: Sequence[Operation]
    violations: Sequence[Violation]
    settled_seconds: float | None

    def __str__(self) -> str:
        return "\n".join((*map(str, self.faults), *map(str, self.violations), self.row()))

    def row(self) -> str:
        """The row of the table."""
        results = Counter(operation.result for operation in self.history)
        kinds = Counter(str(fault.card.action) for fault in self.faults)
        recoveries = [fault.recovery_seconds for fault in self.faults if fault.recovery_seconds is not None] or [0.0]
        rules = Counter(violation.rule for violation in self.violations)
        cells = (
            self.seed,
            self.commit,
            "cluster" if self.cluster else "single",
            f"{self.seconds:.0f} s",
            f"{len(self.faults)}: {_counted(kinds) or 'none'}",
            f"{results[Result.OK]} of {len(self.history)}",
            self._count(LOST),
            self._count(DUPLICATED),
            self._count(OUT_OF_ORDER),
            len(self.violations) - self._count(LOST | DUPLICATED | OUT_OF_ORDER),
            f"{statistics.median(recoveries):.1f} s, {max(recoveries):.1f} s",
            "never" if self.settled_seconds is None else f"{self.settled_seconds:.1f} s",
            f"failed: {_counted(rules)}" if rules else "passed",
        )
        return f"| {' | '.join(map(str, cells))} |"

    def _count(self, rules: Collection[str]) -> int:
        return sum(violation.rule in rules for violation in self.violations)


def _counted(counts: Counter[str]) -> str:
    return ", ".join(f"{count} {name}" for name, count in sorted(counts.items()))


def with_row(page: str, row: str) -> str:
    """The page with one row more at the end of its table, and with the totals of all rows."""
    return with_totals(f"{page.rstrip()}\n{row}\n")


def with_totals(page: str) -> str:
    """The page with the totals of all rows in place of those that it has."""
    rows = [_cells(line) for line in page.splitlines() if re.match(r"\| \d", line)]
    summed = {name: sum(_first_number(row[name]) for row in rows) for name in HEADINGS[4:10]}
    runs = Counter(row["stack"] for row in rows)
    failed = sum(not row["result"].startswith("passed") for row in rows)
    text = (
        f"**Totals:** {len(rows)} runs ({runs['single']} on single nodes, {runs['cluster']} on a cluster; {failed} "
        f"failed), {summed['faults']:,} faults, {summed['acknowledged']:,} acknowledged operations, "
        f"{summed['lost']:,} lost, {summed['duplicated']:,} duplicated, {summed['out of order']:,} out of order, "
        f"{summed['other']:,} other violations."
    )
    return TOTALS.sub(text, page, count=1)


def _cells(row: str) -> dict[str, str]:
    return dict(zip(HEADINGS, (cell.strip() for cell in row.strip("| \n").split(" | ")), strict=True))


def _first_number(cell: str) -> int:
    return int(re.split(r"\D", cell, maxsplit=1)[0])


def commit() -> str:
    """The checked-out commit, with + if the work tree has other changes than rows of the table."""
    changed = _git("status", "--porcelain", "--untracked-files=no", "--", ".", f":!{PAGE.relative_to(PAGE.parents[1])}")
    return _git("rev-parse", "--short=10", "HEAD") + ("+" if changed else "")


def _git(*arguments: str) -> str:
    git = ["git", "-C", str(PAGE.parents[1]), *arguments]
    return subprocess.run(git, check=True, capture_output=True, text=True).stdout.strip()
