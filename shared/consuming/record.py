"""A record as the consumers see it, whichever client library has read it."""

from dataclasses import dataclass
from typing import Any, Self

from shared.contract.headers import ReceivedHeaders
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
