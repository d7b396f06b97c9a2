"""A run adds one row to docs/fault-runs.md, and the totals on the page are the sums of its rows."""

from tests.faults import checker
from tests.faults.checker import Violation
from tests.faults.deck import Action, Card
from tests.faults.history import Kind, Operation, Result
from tests.faults.nemesis import Fault
from tests.faults.report import PAGE, Run, with_row, with_totals

FAULTS = [
    Fault(Card(Action.KILL, ("kafka",), 9), ("kafka",), 1.0, 2.0, 4.0),
    Fault(Card(Action.RESET, ("gateway", "s3"), 1), ("gateway", "s3"), 5.0, 6.0, None),
    Fault(Card(Action.KILL, ("s3",), 9), ("s3",), 8.0, 9.0, 1.5),
]
UPLOAD = Operation(Kind.UPLOAD, "user:1", Result.OK, 1.0, 2.0)
HISTORY = [UPLOAD, UPLOAD, Operation(Kind.UPLOAD, "user:1", Result.UNKNOWN, 1.0, 2.0)]
VIOLATIONS = [
    Violation(checker.LOST, "a"),
    Violation(checker.DISORDERED, "a"),
    Violation(checker.DISORDERED, "b"),
    Violation(checker.TWICE, "c"),
    Violation(checker.ORPHAN, "d"),
]
PASSED = Run(3, "0123456789", False, 60.0, FAULTS, HISTORY, [], 1.25)
FAILED = Run(4, "0123456789+", True, 240.0, [], HISTORY, VIOLATIONS, None)
EMPTY = "# Runs\n\n**Totals:** none\n\n| seed |\n|---|\n"


def test_row_of_a_run_that_passed() -> None:
    assert PASSED.row() == (
        "| 3 | 0123456789 | single | 60 s | 3: 2 kill -9, 1 reset connections | 2 of 3 | 0 | 0 | 0 | 0 | "
        "2.8 s, 4.0 s | 1.2 s | passed |"
    )


def test_row_of_a_run_that_failed_names_the_violations() -> None:
    assert FAILED.row() == (
        "| 4 | 0123456789+ | cluster | 240 s | 0: none | 2 of 3 | 1 | 1 | 2 | 1 | 0.0 s, 0.0 s | never | failed: "
        "1 acknowledged upload lost, 2 answers in another order than the commands, 1 image or upload visible twice, "
        "1 objects that belong to no image |"
    )


def test_totals_are_the_sums_of_the_rows() -> None:
    page = with_row(with_row(EMPTY, PASSED.row()), FAILED.row())
    assert page.count("**Totals:**") == 1
    assert (
        "**Totals:** 2 runs (1 on single nodes, 1 on a cluster; 1 failed), 3 faults, 4 acknowledged operations, "
        "1 lost, 1 duplicated, 2 out of order, 1 other violations.\n"
    ) in page
    assert page.endswith(f"|---|\n{PASSED.row()}\n{FAILED.row()}\n")


def test_committed_page_has_the_totals_of_its_rows() -> None:
    page = PAGE.read_text()
    assert with_totals(page) == page
