"""Converts records of the log to writes of rows. The indexer, the gateway and rebuilds use these pure functions.

Every write inserts whole columns or deletes a row, with the record's version as its timestamp. So the rows do not
depend on the order of the records or on how often a record arrives (invariant 2). If two answers with the same version
differ, Cassandra's rule for equal timestamps decides each column group. `shared.read_model.documents` computes the same
status from either.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import date
from typing import Any
from uuid import UUID

from shared.contract.events import (
    Answer,
    Event,
    Failed,
    Ready,
    Removed,
    RenderCommand,
    Replaced,
    Superseded,
    Uploaded,
)
from shared.contract.keys import Owner, answer_version, day_of, shard_of, uploaded_at
from shared.contract.logged_command import LoggedCommand, LoggedDelete, LoggedFence, LoggedRenderCommand

IMAGES = "images"
BY_OWNER = "images_by_owner"
BY_DAY = "images_by_day"
DAYS = "image_days"
FENCES = "owner_fences"

DAYS_BUCKET = 0
"""The only partition of `image_days`. The days of 200 years need less than a megabyte."""

PRIMARY_KEYS: dict[str, tuple[str, ...]] = {
    IMAGES: ("image_id",),
    BY_OWNER: ("owner_type", "owner_id", "image_id"),
    BY_DAY: ("day", "shard", "image_id"),
    DAYS: ("bucket", "day"),
    FENCES: ("owner_type", "owner_id"),
}
"""Columns of the primary key of each table, in order, as the migrations of `shared/cassandra` declare them."""
IMAGE_TABLES = (IMAGES, BY_OWNER, BY_DAY)
"""Tables with one row for each image. They have the same columns."""


@dataclass(frozen=True)
class Insert:
    """INSERT of these columns, including the key, USING TIMESTAMP `version`."""

    table: str
    columns: dict[str, Any]
    version: int


@dataclass(frozen=True)
class Delete:
    """DELETE of one row USING TIMESTAMP `version`. It deletes everything that was written up to that version."""

    table: str
    key: dict[str, Any]
    version: int


Write = Insert | Delete


@dataclass(frozen=True)
class Outcome:
    """Column group `outcome`: the answer to the latest request. `status` is ready, failed or superseded."""

    revision: UUID
    status: str
    error_type: str | None = None
    error_detail: str | None = None


_KEY_VALUES: dict[str, Callable[[UUID, Owner, int], Any]] = {
    "image_id": lambda image_id, _owner, _shards: image_id,
    "owner_type": lambda _image_id, owner, _shards: owner.type,
    "owner_id": lambda _image_id, owner, _shards: owner.id,
    "day": lambda image_id, _owner, _shards: day_of(image_id),
    "shard": lambda image_id, _owner, shards: shard_of(image_id, shards),
}


def image_key(table: str, image_id: UUID, owner: Owner, shards: int) -> dict[str, Any]:
    """Primary key of an image's row in one of IMAGE_TABLES, with the columns in the order of the key."""
    return {name: _KEY_VALUES[name](image_id, owner, shards) for name in PRIMARY_KEYS[table]}


def identity_columns(image_id: UUID, owner: Owner) -> dict[str, Any]:
    """Columns that identify the image of a row. Every insert writes them."""
    return {
        "image_id": image_id, "owner_type": owner.type, "owner_id": owner.id, "uploaded_at": uploaded_at(image_id),
    }  # fmt: skip


def day_insert(day: date, version: int) -> Insert:
    """The write that adds a day to the list of days with images."""
    return Insert(DAYS, {"bucket": DAYS_BUCKET, "day": day}, version)


def owner_key(owner: Owner) -> dict[str, Any]:
    """Primary key of an owner in the table of fences."""
    return {"owner_type": owner.type, "owner_id": owner.id}


def fence_insert(owner: Owner, before: int) -> Insert:
    """The write that records that the owner's images below this version are cleared.

    The bound is also the timestamp, so the highest bound wins in any order. At the fence's own version, the fence of a
    set would win against that of an earlier clear although it is lower.
    """
    return Insert(FENCES, {**owner_key(owner), "before": before}, before)


@dataclass(frozen=True)
class _Row:
    """Builds the writes to the rows of one image, one row in each table."""

    image_id: UUID
    owner: Owner
    shards: int
    common: dict[str, Any] = field(default_factory=dict)

    def keys(self) -> dict[str, dict[str, Any]]:
        return {table: image_key(table, self.image_id, self.owner, self.shards) for table in IMAGE_TABLES}

    def inserts(self, version: int, columns: dict[str, Any]) -> list[Write]:
        return [Insert(table, {**self.common, **key, **columns}, version) for table, key in self.keys().items()]

    def day(self, version: int) -> Write:
        return day_insert(day_of(self.image_id), version)

    def deletes(self, version: int) -> list[Write]:
        return [Delete(table, key, version) for table, key in self.keys().items()]


def command_writes(logged: LoggedCommand, shards: int) -> list[Write]:
    """Writes of a command, at its version, and the record of a fence, at the fence's bound.

    A reprocess has no writes. A fence that keeps images has none either: the kept images are below its bound.
    """
    match logged:
        case LoggedRenderCommand(command=Uploaded() | Replaced()):
            row = _row(logged.command, logged.image_version, shards)
            return [row.day(logged.version), *row.inserts(logged.version, {"request": logged.request})]
        case LoggedDelete(command):
            return _Row(command.image_id, command.owner, shards).deletes(logged.version)
        case LoggedFence(command):
            return [] if command.keep else [fence_insert(command.owner, logged.before)]
        case LoggedRenderCommand():
            return []


def event_writes(event: Event, shards: int) -> list[Write]:
    """Writes of an answer, at the answer's version.

    The answer also writes the request of its command, at the command's version, so that a rebuild from events alone
    restores it. The answer to a reprocess writes only `current`, because a reprocess is not a request of a client.
    """
    if isinstance(event, Removed):
        return _Row(event.image_id, event.owner, shards).deletes(event.removed_version)
    version = answer_version(event.version)
    columns: dict[str, Any] = {"current": event.current} if isinstance(event, Ready) else {}
    row = _row(event, event.image_version, shards)
    if event.answers == "image.reprocess":
        return row.inserts(version, columns) if columns else []
    columns["outcome"] = _outcome(event)
    return [
        row.day(version),
        *row.inserts(event.version, {"request": event.request}),
        *row.inserts(version, columns),
    ]


def _row(record: RenderCommand | Answer, introduced: int, shards: int) -> _Row:
    common = identity_columns(record.image_id, record.owner) | {"image_version": introduced}
    return _Row(record.image_id, record.owner, shards, common)


def _outcome(event: Ready | Failed | Superseded) -> Outcome:
    revision = event.request.revision
    match event:
        case Ready():
            return Outcome(revision, "ready")
        case Failed():
            return Outcome(revision, "failed", event.error.type, event.error.detail)
        case Superseded():
            return Outcome(revision, "superseded")
