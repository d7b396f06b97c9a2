"""What the core asks of the engines. Each port has an adapter for the real engine and one in memory for unit tests."""

from collections.abc import AsyncIterator, Iterable, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from typing import Protocol
from uuid import UUID

from shared.contract.events import Command, Event
from shared.contract.headers import Headers
from shared.contract.keys import Owner, Partition
from shared.read_model.documents import ImageRow
from shared.read_model.tables import Write


@dataclass(frozen=True)
class ObjectInfo:
    """An object in the bucket. `size` in bytes; `etag` without quotes."""

    key: str
    size: int
    etag: str
    modified: datetime
    content_type: str = "application/octet-stream"


@dataclass(frozen=True)
class ObjectRange:
    """Bytes `start` to `end` (inclusive) of an object, as a stream; `info` describes the whole object."""

    info: ObjectInfo
    start: int
    end: int
    body: AsyncIterator[bytes]


class ObjectStore(Protocol):
    """The bucket. Every method raises Unavailable when it is away, RequestRefused where it will never take the key."""

    async def put(self, key: str, data: bytes, content_type: str, *, if_absent: bool = False) -> str:
        """Store an object; returns its ETag. Raises PreconditionFailed with `if_absent` where there is one."""

    async def get(self, key: str) -> bytes:
        """The object's bytes. Raises NotFound."""

    async def head(self, key: str) -> ObjectInfo:
        """What there is under the key. Raises NotFound."""

    async def open(self, key: str, start: int = 0, end: int | None = None) -> ObjectRange:
        """Stream bytes start..end (inclusive; None: to the last). Raises NotFound."""

    async def copy(self, source: str, target: str, content_type: str, *, if_etag: str) -> None:
        """Copy within the bucket. Raises PreconditionFailed where the source has another ETag, NotFound."""

    async def list(self, prefix: str) -> Sequence[ObjectInfo]:
        """Every object whose key starts with the prefix, by key."""

    async def delete(self, keys: Iterable[str]) -> None:
        """Delete objects; one that is not there is no error."""


@dataclass(frozen=True)
class Appended:
    """Where a record went. `offset` is None where the broker acked without one: the record is in the log anyway."""

    partition: int
    offset: int | None


class CommandLog(Protocol):
    """The commands topic, for writing."""

    async def append(self, command: Command, *, traceparent: str | None = None) -> Appended:
        """Append and wait for the ack of all in-sync replicas. Raises UnknownOutcome, Unavailable."""


class EventLog(Protocol):
    """The events topic, for writing."""

    async def publish(self, event: Event, *, traceparent: str | None = None) -> None:
        """Publish and wait for the ack of all in-sync replicas. Raises UnknownOutcome, Unavailable."""


class DeadLetters(Protocol):
    """The DLQ, for writing."""

    async def send(self, key: bytes | None, value: bytes | None, headers: Headers) -> None:
        """Write a record untouched, with headers that say why; waits for the ack. Raises Unavailable."""


class Index(Protocol):
    """The view in Cassandra. Every method raises Unavailable when it is away."""

    async def apply(self, writes: Sequence[Write]) -> None:
        """Apply the writes at their timestamps; returns when all are acknowledged. Idempotent."""

    async def image(self, image_id: UUID) -> ImageRow | None:
        """One image."""

    async def of_owner(
        self, owner: Owner, *, below: UUID | None = None, above: UUID | None = None, limit: int = 50
    ) -> Sequence[ImageRow]:
        """Up to `limit` images of an owner, newest first, with ids strictly between the bounds."""

    async def ids(
        self, partition: Partition, *, below: UUID | None = None, above: UUID | None = None, limit: int = 50
    ) -> Sequence[UUID]:
        """Ids of up to `limit` images of a partition, newest first, strictly between the bounds."""

    async def count(self, partition: Partition, *, below: UUID | None = None, above: UUID | None = None) -> int:
        """How many images of a partition there are strictly between the bounds."""

    async def rows(self, partition: Partition, ids: Sequence[UUID]) -> Sequence[ImageRow]:
        """Those of the images with these ids that are in the partition, in any order."""

    async def ids_of_days(
        self, days: Sequence[date], shards: int, *, below: UUID | None = None, above: UUID | None = None, limit: int
    ) -> Sequence[UUID]:
        """Ids of up to `limit` images of each shard of each day, in any order, strictly between the bounds.

        Together these may be 5,000 at most. Raises TooManyDeletions.
        """

    async def rows_of_days(self, days: Sequence[date], shards: int, ids: Sequence[UUID]) -> Sequence[ImageRow]:
        """Those of the images with these ids that are in the list of one of the days, in any order."""

    async def days(self) -> Sequence[date]:
        """Days on which there may be images, newest first."""
