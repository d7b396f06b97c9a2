"""How long to wait before a part that ended is started again."""

from dataclasses import dataclass

FIRST = 0.5
LONGEST = 30.0
RAN_WELL = 30.0
"""Seconds after which an end counts as the first again."""


@dataclass
class Backoff:
    """Doubles from half a second to half a minute; starts over once the part ran well for a while."""

    failures: int = 0

    def next_delay(self, ran_for: float) -> float:
        """Seconds to wait after an end; `ran_for`: seconds that the part had run."""
        if ran_for >= RAN_WELL:
            self.failures = 0
        delay = min(LONGEST, FIRST * 2**self.failures)
        self.failures += 1
        return float(delay)
