"""Which engines a process can use, and since when, as its last checks found."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime


@dataclass(frozen=True)
class EngineState:
    """`since` is the time of the check that found the present state, or the start of the process."""

    available: bool
    since: datetime


def _now() -> datetime:
    return datetime.now(UTC)


class Availability:
    """The state of each engine. Until its first check an engine counts as unavailable."""

    def __init__(self, engines: Iterable[str], clock: Callable[[], datetime] = _now) -> None:
        self._clock = clock
        started = clock()
        self._states = {engine: EngineState(False, started) for engine in engines}

    @property
    def states(self) -> Mapping[str, EngineState]:
        """The state of each engine by its name."""
        return self._states

    def note(self, engine: str, available: bool) -> None:
        """Record what a check found. Only a change of the state has a new time."""
        if self._states[engine].available != available:
            self._states[engine] = EngineState(available, self._clock())
