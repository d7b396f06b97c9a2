"""Figures of the suite: values and their floors, measured in alternating rounds of one run, and the aims for them."""

import statistics
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, TypeVar

T = TypeVar("T")

MAX_FLOOR_SPREAD = 0.15
"""A floor does the same work in each round. If it varies by more than this, other work disturbed the run."""


def spread(values: Sequence[float]) -> float:
    """The difference between the largest and the smallest value, as a fraction of the median."""
    return (max(values) - min(values)) / statistics.median(values)


@dataclass(frozen=True)
class Aim:
    """A bound of a figure: of its ratio to the floor, or of the value itself."""

    kind: Literal["at most", "at least"]
    bound: float
    of: Literal["ratio", "value"] = "ratio"

    def is_met(self, measured: float) -> bool:
        """Whether this value or ratio is within the bound."""
        return measured <= self.bound if self.kind == "at most" else measured >= self.bound


@dataclass(frozen=True)
class Figure:
    """What was measured in each round. `values` and `floors` have the same unit and the same length.

    `parts` splits the value up, for example the CPU of a request by process. A figure may have no aim.
    """

    name: str
    unit: str
    floor_name: str
    values: Sequence[float]
    floors: Sequence[float]
    aim: Aim | None
    parts: Mapping[str, float] = field(default_factory=dict)

    @property
    def value(self) -> float:
        """The median over the rounds."""
        return statistics.median(self.values)

    @property
    def floor(self) -> float:
        """The median of the floor."""
        return statistics.median(self.floors)

    @property
    def ratio(self) -> float:
        """The median over the rounds of value to floor. Both of a round were measured within seconds of each other."""
        return statistics.median(value / floor for value, floor in zip(self.values, self.floors, strict=True))

    @property
    def is_met(self) -> bool | None:
        """Whether the aim is met; None without an aim."""
        if self.aim is None:
            return None
        return self.aim.is_met(self.ratio if self.aim.of == "ratio" else self.value)

    @property
    def is_steady(self) -> bool:
        """Whether the floor was about the same in all rounds."""
        return spread(self.floors) <= MAX_FLOOR_SPREAD


Measure = Callable[[], Awaitable[float]]
"""Measures a value once."""


@dataclass(frozen=True)
class Rounds:
    """How often and how long everything is measured, and where the figures go.

    `seconds` is the length of a measure that repeats requests. Each figure is reported as soon as it is known.
    """

    count: int
    seconds: float
    report: Callable[[Figure], None]

    @property
    def runs(self) -> int:
        """How often `in_turn` runs each measure: once in each round, and once before them."""
        return self.count + 1

    async def in_turn(self, *measures: Callable[[], Awaitable[T]], warm_up: bool = True) -> tuple[list[T], ...]:
        """Run the measures one after the other, once in each round; returns the results of each measure.

        With `warm_up` there is one more round at the start, whose results are dropped: connections are opened,
        statements are prepared, and the virtual machines of the engines compile their code.
        """
        found: tuple[list[T], ...] = tuple([] for _ in measures)
        for number in range(self.count + warm_up):
            for measure, results in zip(measures, found, strict=True):
                result = await measure()
                if number >= warm_up:
                    results.append(result)
        return found

    async def compare(self, name: str, unit: str, floor: tuple[str, Measure], measure: Measure, aim: Aim) -> None:
        """Measure a value and its floor, which has a name, in turn, and report the figure."""
        floor_name, measure_floor = floor
        floors, values = await self.in_turn(measure_floor, measure)
        self.report(Figure(name, unit, floor_name, values, floors, aim))
