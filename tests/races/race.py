"""A race: two requests at almost the same time, and the rule that holds after both answers."""

from collections.abc import Collection
from dataclasses import dataclass, field
from typing import ClassVar, Protocol

from tests.races.front import Answer, Front


@dataclass(frozen=True)
class View:
    """What a rule is checked on: both answers, the gateway that gave each of them, and all gateways to read from.

    A gateway's caches may be a second old, except on the gateway that acknowledged a change. So a rule reads with
    `fresh` from the other gateways.
    """

    answers: tuple[Answer, Answer]
    asked: tuple[Front, Front]
    fronts: tuple[Front, ...]


class Race(Protocol):
    """Two requests on data that no other race uses."""

    name: ClassVar[str]
    """The two requests, as the report names them."""
    refusal: ClassVar[int | None]
    """Status with which the gateway refuses one of the requests; None if it may acknowledge both."""

    async def prepare(self, front: Front) -> None:
        """Make the data. The stack is whole at this time."""

    async def send(self, number: int, front: Front) -> Answer:
        """Send request 0, or request 1, which follows it."""

    async def broken(self, view: View) -> Collection[str]:
        """Where the rule is broken now; empty if it holds. Called again and again after both answers."""


@dataclass
class Finding:
    """What was seen after one race.

    `broken` maps each place where the rule was broken to the seconds after both answers at which it was last seen.
    `checks` is the number of times that the rule was checked.
    """

    name: str
    situation: str
    answers: tuple[Answer, Answer]
    broken: dict[str, float] = field(default_factory=dict)
    checks: int = 0

    def __str__(self) -> str:
        seen = ", ".join(f"{place} ({seconds:.1f} s)" for place, seconds in sorted(self.broken.items()))
        return f"{self.name}, {self.situation}: {[answer.status for answer in self.answers]}, {seen or 'kept'}"
