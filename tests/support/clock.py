"""A clock that stands still until a test moves it."""

from typing import Generic, TypeVar

Moment = TypeVar("Moment")


class Clock(Generic[Moment]):
    """Stands in for `time.monotonic` (a float, in seconds) or for a function that returns the time of day (a datetime).

    A test moves it by adding to `now`.
    """

    def __init__(self, now: Moment) -> None:
        self.now = now

    def __call__(self) -> Moment:
        return self.now
