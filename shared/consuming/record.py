"""A record as the consumers see it, whichever client library has read it."""

from dataclasses import dataclass
from typing import Any, Self

from shared.contract.headers import Headers, ReceivedHeaders
from shared.settings import Topic


@dataclass(frozen=True, slots=True)
class ConsumedRecord:
    """A record of one of our topics. What it means is up to the service that reads it.

    `appended_at` is in seconds since 1970, None for a record without a time.
    """

    topic: Topic
    partition: int
    offset: int
    key: bytes | None
    value: bytes | None
    headers: ReceivedHeaders = ()
    appended_at: float | None = None

    @property
    def timestamp(self) -> int:
        """`appended_at` as Kafka has it: in milliseconds since 1970; 0 for a record without a time."""
        return round((self.appended_at or 0) * 1000)

    @property
    def present_headers(self) -> Headers:
        """The headers that have a value: one without counts as absent, and cannot be sent on."""
        return [(name, value) for name, value in self.headers if value is not None]

    @classmethod
    def from_aiokafka(cls, topic: Topic, record: Any) -> Self:
        """Convert a record of aiokafka, which knows only the physical name of its topic."""
        return cls(
            topic,
            record.partition,
            record.offset,
            record.key,
            record.value,
            list(record.headers),
            # Kafka's -1: the record has no time.
            record.timestamp / 1000 if record.timestamp > 0 else None,
        )
