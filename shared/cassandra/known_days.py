"""Which days need no write, because Cassandra has acknowledged them a short time ago."""

import time
from collections.abc import Iterable
from datetime import date

from shared.read_model.tables import DAYS, Insert, Write

SECONDS = 60.0
"""A day is written again after this time, so that a table that was emptied gets it back."""


class KnownDays:
    """Days whose row was acknowledged within the last minute. The row never changes, and nothing deletes it.

    Without it each record would write the row of its day again.
    """

    def __init__(self) -> None:
        self._until: dict[date, float] = {}

    def without(self, writes: Iterable[Write]) -> list[Write]:
        """The writes that are needed: all except those of known days."""
        now = time.monotonic()
        return [write for write in writes if (day := _day(write)) is None or now >= self._until.get(day, 0.0)]

    def acknowledged(self, writes: Iterable[Write]) -> None:
        """Note the days of these writes, which Cassandra has acknowledged."""
        until = time.monotonic() + SECONDS
        self._until |= {day: until for write in writes if (day := _day(write)) is not None}


def _day(write: Write) -> date | None:
    return write.columns["day"] if isinstance(write, Insert) and write.table == DAYS else None
