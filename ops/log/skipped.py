"""The records that a command has passed over because they are not valid, as the services do."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from shared.consuming.record import ConsumedRecord

NAMED = 20
"""Records whose place and reason are kept. The others are only counted, so that a topic of them needs no memory."""


@dataclass
class Skipped:
    """`places` maps topic, partition and offset of the first records to the reason."""

    count: int = 0
    places: dict[str, str] = field(default_factory=dict)

    def add(self, record: ConsumedRecord, reason: object) -> None:
        """Count one record."""
        self.count += 1
        if len(self.places) < NAMED:
            self.places[f"{record.topic} {record.partition}:{record.offset}"] = str(reason)

    def document(self) -> Mapping[str, Any]:
        """For JSON."""
        return {"records": self.count, "places": self.places}

    def lines(self) -> list[str]:
        """For a terminal; empty if nothing was skipped."""
        if not self.count:
            return []
        lines = [f"{self.count:,} records are not valid and were skipped, as the services do:"]
        lines += [f"  {place}: {reason}" for place, reason in self.places.items()]
        return lines + ([f"  and {self.count - len(self.places):,} more"] if self.count > len(self.places) else [])
