"""The interfaces (ports) to the engines. Each has an adapter for the engine, and one in memory for unit tests."""

from collections.abc import AsyncIterator, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from typing import Protocol
from uuid import UUID

from shared.contract.events import Command, Event
from shared.contract.headers import Headers
from shared.contract.keys import DayShard, Owner, Partition
from shared.read_model.documents import ImageRow
from shared.read_model.tables import Write

LIST_PAGE = 1000
"""Maximum number of objects in one page of a listing."""


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
    """The bucket.

    Every method raises Unavailable if the S3 store is unavailable, and RequestRefused if it never accepts the key.
    """

    async def put(self, key: str, data: bytes, content_type: str, *, if_absent: bool = False) -> str:
        """Store an object; returns its ETag. With `if_absent` it raises PreconditionFailed if the object exists."""

    async def get(self, key: str) -> bytes:
        """The object's bytes. Raises NotFound."""

    async def head(self, key: str) -> ObjectInfo:
        """Size, ETag, time and content type of an object. Raises NotFound."""

    async def open(self, key: str, start: int = 0, end: int | None = None) -> ObjectRange:
        """Stream the bytes `start` to `end`, inclusive; to the last byte if `end` is None. Raises NotFound."""

    async def copy(self, source: str, target: str, content_type: str, *, if_etag: str) -> None:
        """Copy an object within the bucket. Raises NotFound, and PreconditionFailed if the source has another ETag."""

    async def page(
        self, prefix: str, token: str | None = None, *, after: str = "", limit: int = LIST_PAGE
    ) -> tuple[Sequence[ObjectInfo], str | None]:
        """Up to `limit` objects whose keys start with the prefix, by key, and the token of the next page or None.

        The first page may begin `after` a key, whether or not there is such an object. A time-out is for one page.
        """

    async def list(self, prefix: str) -> Sequence[ObjectInfo]:
        """All objects whose keys start with the prefix, in the order of their keys, read page by page."""

    async def delete(self, keys: Iterable[str]) -> None:
        """Delete objects. A missing object is no error."""


@dataclass(frozen=True)
class Appended:
    """Partition and offset of an appended record. `offset` is None if the ack had none; the record is in the log."""

    partition: int
    offset: int | None


class CommandLog(Protocol):
    """The commands topic, for writing."""

    async def append(self, command: Command, *, traceparent: str | None = None) -> Appended:
        """Append a command and wait for the ack of all in-sync replicas. Raises UnknownOutcome, Unavailable."""


class EventLog(Protocol):
    """The events topic, for writing."""

    async def publish(self, event: Event, *, traceparent: str | None = None) -> None:
        """Publish an event and wait for the ack of all in-sync replicas. Raises UnknownOutcome, Unavailable."""


class DeadLetters(Protocol):
    """The DLQ, for writing."""

    async def send(self, key: bytes | None, value: bytes | None, headers: Headers) -> None:
        """Write a record unchanged, with these headers, and wait for the ack. Raises Unavailable."""


@dataclass(frozen=True)
class DayIds:
    """Ids of images by partition, newest first. Each of the `partial` partitions may have more between the bounds."""

    ids: Mapping[DayShard, Sequence[UUID]]
    partial: Collection[DayShard]


class Index(Protocol):
    """The index in Cassandra. Every method raises Unavailable if Cassandra is unavailable.

    A ghost is a row that is no image, because it lacks the existence columns. Only `row_ids` returns ghosts.
    """

    async def apply(self, writes: Sequence[Write]) -> None:
        """Apply the writes at their timestamps. Returns when Cassandra has acknowledged all. Idempotent.

        A deletion removes the row in the owner's list last: an image that is not in this list is in no other table.
        """

    async def image(self, image_id: UUID) -> ImageRow | None:
        """The row of an image; None if there is none."""

    async def cleared_before(self, owner: Owner) -> int:
        """The owner's record of fences: the owner's images with a version below it are cleared. 0 without a record."""

    async def of_owner(
        self, owner: Owner, *, below: UUID | None = None, above: UUID | None = None, limit: int = 50
    ) -> Sequence[ImageRow]:
        """Up to `limit` images of an owner, newest first, with ids strictly between the bounds."""

    async def ids(
        self, partition: Partition, *, below: UUID | None = None, above: UUID | None = None, limit: int = 50
    ) -> Sequence[UUID]:
        """Ids of up to `limit` images of a partition, newest first, strictly between the bounds."""

    async def row_ids(self, owner: Owner, *, below: UUID | None = None, limit: int = 50) -> Sequence[UUID]:
        """Ids of up to `limit` rows of an owner below the bound, newest first: those of images and of ghosts."""

    async def count(self, partition: Partition, *, below: UUID | None = None, above: UUID | None = None) -> int:
        """Number of images of a partition strictly between the bounds."""

    async def rows(self, partition: Partition, ids: Sequence[UUID]) -> Sequence[ImageRow]:
        """Rows of the images with these ids, in any order. Images that are not in the partition are left out."""

    async def ids_of_days(
        self, days: Sequence[date], shards: int, *, below: UUID | None = None, above: UUID | None = None, limit: int
    ) -> DayIds:
        """Ids of the images among the newest `limit` rows of each shard of each day, strictly between the bounds.

        Days, shards and limit must be chosen so that there are at most 5,000 rows. Raises TooManyDeletions.
        """

    async def rows_of_days(self, days: Sequence[date], shards: int, ids: Sequence[UUID]) -> Sequence[ImageRow]:
        """Rows of the images with these ids, in any order. Images that are not in one of the days are left out."""

    async def days(self) -> Sequence[date]:
        """Days that may have images, newest first."""
