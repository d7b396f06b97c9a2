"""Converts records of the log to writes of rows. The indexer, the gateway and rebuilds use these pure functions.

Every write sets whole columns or deletes a row, with a version of the log as its timestamp. So the rows do not depend
on the order of the records or on how often a record arrives (invariant 2). If two answers with the same version differ,
Cassandra's rule for equal timestamps decides each column group. `shared.read_model.documents` computes the same status
from either.

The columns that make an image exist are written by every record that knows `image_version`, at that version and not at
the record's own. Every deletion of the image is above that version. So no record that arrives behind a deletion brings
the image back: it leaves a ghost, a row without these columns, which is no image (invariant 6, ADR 13). And any record
alone restores the image in a rebuild.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
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
    """INSERT of these columns, including the key, USING TIMESTAMP `version`. Rows of images have updates instead."""

    table: str
    columns: dict[str, Any]
    version: int


@dataclass(frozen=True)
class Update:
    """UPDATE of columns of one row USING TIMESTAMP `version`.

    An UPDATE leaves no row marker, so a row exists only as long as one of its columns has a value.
    """

    table: str
    key: dict[str, Any]
    columns: dict[str, Any]
    version: int


@dataclass(frozen=True)
class Delete:
    """DELETE of one row USING TIMESTAMP `version`. It deletes everything that was written up to that version."""

    table: str
    key: dict[str, Any]
    version: int


Write = Insert | Update | Delete


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


def existence_columns(image_id: UUID, owner: Owner, image_version: int) -> dict[str, Any]:
    """Columns that make an image exist: a row without them is no image. Their timestamp is always `image_version`."""
    return {
        "owner_type": owner.type, "owner_id": owner.id, "uploaded_at": uploaded_at(image_id),
        "image_version": image_version,
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
class RowWriter:
    """Makes the writes to the rows of one image, one row in each of the tables."""

    image_id: UUID
    owner: Owner
    shards: int
    tables: Sequence[str] = IMAGE_TABLES

    def updates(self, image_version: int | None, groups: Iterable[tuple[int, Mapping[str, Any]]]) -> list[Write]:
        """Updates of column groups, each at its version, and of the existence columns at `image_version`.

        With `image_version` None the row does not become an image.
        """
        by_version: dict[int, dict[str, Any]] = {}
        if image_version is not None:
            by_version[image_version] = existence_columns(self.image_id, self.owner, image_version)
        for version, columns in groups:
            by_version.setdefault(version, {}).update(columns)
        return [
            Update(table, key, {name: value for name, value in columns.items() if name not in key}, version)
            for version, columns in by_version.items()
            for table, key in self._keys().items()
        ]

    def deletes(self, version: int) -> list[Write]:
        """Deletions of the rows, at this version."""
        return [Delete(table, key, version) for table, key in self._keys().items()]

    def _keys(self) -> dict[str, dict[str, Any]]:
        return {table: image_key(table, self.image_id, self.owner, self.shards) for table in self.tables}


def command_writes(logged: LoggedCommand, shards: int, tables: Sequence[str] = IMAGE_TABLES) -> list[Write]:
    """Writes of a command, at its version, and the record of a fence, at the fence's bound.

    `tables` are those of IMAGE_TABLES that get a row.
    A reprocess has no writes. A fence that keeps images has none either: the kept images are below its bound.
    """
    match logged:
        case LoggedRenderCommand(command=Uploaded() | Replaced()):
            updates = _rows(logged.command, shards, tables).updates(
                logged.image_version, [(logged.version, {"request": logged.request})]
            )
            return [_day(logged.command, logged.version), *updates]
        case LoggedDelete(command):
            return RowWriter(command.image_id, command.owner, shards, tables).deletes(logged.version)
        case LoggedFence(command):
            return [] if command.keep else [fence_insert(command.owner, logged.before)]
        case LoggedRenderCommand():
            return []


def event_writes(event: Event, shards: int, tables: Sequence[str] = IMAGE_TABLES) -> list[Write]:
    """Writes of an answer, at the answer's version, with a row in each of these tables.

    The answer also writes the request of its command, at the command's version, so that a rebuild from events alone
    restores it. The answer to a reprocess writes only `current`, because a reprocess is not a request of a client.
    """
    if isinstance(event, Removed):
        return RowWriter(event.image_id, event.owner, shards, tables).deletes(event.removed_version)
    version, rows = answer_version(event.version), _rows(event, shards, tables)
    columns: dict[str, Any] = {"current": event.current} if isinstance(event, Ready) else {}
    if event.answers == "image.reprocess":
        return rows.updates(event.image_version, [(version, columns)]) if columns else []
    columns["outcome"] = _outcome(event)
    groups = [(event.version, {"request": event.request}), (version, columns)]
    return [_day(event, version), *rows.updates(event.image_version, groups)]


def _rows(record: RenderCommand | Answer, shards: int, tables: Sequence[str]) -> RowWriter:
    return RowWriter(record.image_id, record.owner, shards, tables)


def _day(record: RenderCommand | Answer, version: int) -> Write:
    return day_insert(day_of(record.image_id), version)


def _outcome(event: Ready | Failed | Superseded) -> Outcome:
    revision = event.request.revision
    match event:
        case Ready():
            return Outcome(revision, "ready")
        case Failed():
            return Outcome(revision, "failed", event.error.type, event.error.detail)
        case Superseded():
            return Outcome(revision, "superseded")
