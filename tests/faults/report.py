"""The summary of a fault run: the faults, and one row for the table in docs/reliability.md."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from tests.faults import checker
from tests.faults.checker import Violation
from tests.faults.history import Operation, Result
from tests.faults.nemesis import Fault

DUPLICATED = {checker.TWICE, checker.PHANTOM}


@dataclass(frozen=True)
class Run:
    """One run. `settled_seconds`: from the end of the last fault until nothing was left to do."""

    seed: int
    seconds: float
    faults: Sequence[Fault]
    history: Sequence[Operation]
    violations: Sequence[Violation]
    settled_seconds: float

    def __str__(self) -> str:
        told = Counter(operation.result for operation in self.history)
        kinds = Counter(fault.card.action for fault in self.faults)
        duplicated = sum(violation.rule in DUPLICATED for violation in self.violations)
        cells = (
            self.seed,
            f"{self.seconds:.0f} s",
            f"{len(self.faults)}: " + ", ".join(f"{count} {kind}" for kind, count in sorted(kinds.items())),
            f"{told[Result.OK]} of {len(self.history)}",
            len(self.violations) - duplicated,
            duplicated,
            f"{max((fault.recovery_seconds for fault in self.faults), default=0):.1f} s",
            f"{self.settled_seconds:.1f} s",
        )
        return "\n".join((*map(str, self.faults), f"| {' | '.join(map(str, cells))} |"))
