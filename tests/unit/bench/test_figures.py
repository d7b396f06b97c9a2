"""A figure is judged by its aim, if it has one; the table and the file of results show that."""

import io
from collections.abc import Sequence

import pytest
from rich.console import Console

from bench.figures import Aim, Figure, Rounds
from bench.machine import Conditions
from bench.report import Report, print_table

QUIET = Conditions(60, 0.0, 0.1, 2, 8.0, "A CPU", "Linux", "3.11")


def figure(aim: Aim | None, floors: Sequence[float] = (2, 2, 2)) -> Figure:
    return Figure("PUT", "ms", "acked record", [4, 5, 6], floors, aim)


@pytest.mark.parametrize(
    ("aim", "is_met"),
    [
        (Aim("at most", 2.5), True),
        (Aim("at most", 2.4), False),
        (Aim("at least", 5, "value"), True),
        (Aim("at least", 6, "value"), False),
        (None, None),
    ],
)
def test_an_aim_bounds_the_ratio_or_the_value(aim: Aim | None, is_met: bool | None) -> None:
    assert figure(aim).is_met is is_met


def test_a_figure_without_an_aim_has_dashes_and_still_shows_that_its_floor_was_disturbed() -> None:
    report = Report("gateway", 3, QUIET, [figure(None), figure(Aim("at most", 2)), figure(None, floors=(2, 3, 2))])
    found = report.document()
    assert [each["aim"] for each in found["figures"]] == [None, {"kind": "at most", "bound": 2, "of": "ratio"}, None]
    assert [each["is_met"] for each in found["figures"]] == [None, False, None]
    assert found["objections"] == ["the floor of PUT varies by 50%, more than 15%"]
    shown = io.StringIO()
    print_table([report], Console(file=shown, width=200))
    rows = [line.split("│")[6:8] for line in shown.getvalue().splitlines() if "PUT" in line and "│" in line]
    assert [[cell.strip() for cell in row] for row in rows] == [["–", "–"], ["≤ 2", "no"], ["–", "–"]]


async def test_a_run_has_one_round_more_than_its_results() -> None:
    rounds = Rounds(3, 1.0, lambda _: None)
    ran: list[int] = []

    async def measure() -> int:
        ran.append(len(ran))
        return ran[-1]

    [found] = await rounds.in_turn(measure)
    assert (found, len(ran)) == ([1, 2, 3], rounds.runs)
