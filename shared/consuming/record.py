"""A record as both consumers see it, independent of the client library (Faust or aiokafka) that read it."""

from dataclasses import dataclass
from typing import Any, Self

from shared.contract.headers import Headers, ReceivedHeaders
from shared.contract.keys import END_OF_TIME
from shared.settings import Topic


@dataclass(frozen=True, slots=True)
class ConsumedRecord:
    """A record of one of our topics, not parsed yet.

    `appended_at` is in seconds since 1970; it is None for a record without a time.
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
        """`appended_at` in Kafka's unit, milliseconds since 1970; 0 for a record without a time."""
        return round((self.appended_at or 0) * 1000)

    @property
    def present_headers(self) -> Headers:
        """The headers that have a value. A header without a value counts as absent, and clients cannot send it."""
        return [(name, value) for name, value in self.headers if value is not None]

    @classmethod
    def from_aiokafka(cls, topic: Topic, record: Any) -> Self:
        """Convert a record of aiokafka. `topic` is given, because the record has only the topic's name in Kafka."""
        return cls(
            topic,
            record.partition,
            record.offset,
            record.key,
            record.value,
            list(record.headers),
            # -1 is Kafka's value for a record without a time. A client can write any other, also one after year 9999.
            record.timestamp / 1000 if 0 < record.timestamp < END_OF_TIME else None,
        )
