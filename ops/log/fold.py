"""Folds the log into the state of each image: the rows that it must have, and its commands without an answer.

Memory: one `ImageState` for each image, plus 0.5 kB for each revision. If the images do not fit into memory, the log is
folded several times, each time for one slice of the images.
"""

from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import date
from typing import Any
from uuid import UUID

from pydantic import BaseModel

from ops.log.skipped import Skipped
from shared.consuming.record import ConsumedRecord
from shared.contract.encoding import decode_event
from shared.contract.events import Current, Event, OwnerCleared, Removed, Request
from shared.contract.keys import Owner
from shared.contract.logged_command import LoggedCommand, LoggedFence, LoggedRenderCommand, read_command
from shared.errors import PoisonRecord
from shared.read_model.tables import DAYS, IMAGES, Delete, Insert, Outcome, Update, Write, command_writes, event_writes

GROUPS: Mapping[str, type] = {"image_version": int, "request": Request, "outcome": Outcome, "current": Current}
"""Columns that are compared, with their types. The other columns are part of a key, or follow from the id."""
_TABLE = (IMAGES,)
"""The table that is folded. The tables of images have the same columns, so one of them is enough."""


@dataclass(slots=True)
class Cell:
    """The latest value of a column group. `values` has several if the log has different answers with this version."""

    version: int
    values: list[Any]

    def offer(self, version: int, value: Any) -> None:
        """Add a value. A later version replaces the present values."""
        if version > self.version:
            self.version, self.values = version, [value]
        elif version == self.version and value not in self.values:
            self.values.append(value)


@dataclass(slots=True)
class ImageState:
    """The state of one image in the log."""

    image_id: UUID
    owner: Owner
    cells: dict[str, Cell] = field(default_factory=dict)
    deleted: int = -1
    """Version of the latest deletion; -1 without one. It deletes all values up to this version."""
    deleted_at: int = 0
    """Append time of the latest deletion, in milliseconds since 1970."""
    revisions: dict[UUID, str] = field(default_factory=dict)
    """Maps each revision to the key of its original."""
    renders: set[tuple[UUID, str]] = field(default_factory=set)
    """Revision and folder of each render for which the log has a command."""
    unanswered: set[int] = field(default_factory=set)
    """Versions of commands that have no answer yet."""

    def live(self) -> dict[str, Cell]:
        """Column groups that are later than the latest deletion; empty if there must be no row.

        Without `image_version` the row is a ghost and no image (invariant 6).
        """
        return {name: cell for name, cell in self.cells.items() if cell.version > self.deleted}

    @property
    def is_removed(self) -> bool:
        """Whether the image is deleted in the log."""
        return self.deleted >= 0 and "image_version" not in self.live()

    def value(self, name: str) -> Any:
        """The unpacked value of a column group; None if there is none. If there are several values, the first."""
        cell = self.live().get(name)
        return unpack(name, cell.values[0]) if cell else None


class Fold:
    """The states of all images, or of one slice of them. The functions that write the index compute them too."""

    def __init__(self, epoch: int, slice_number: int = 0, slices: int = 1) -> None:
        self.images: dict[UUID, ImageState] = {}
        self.days: set[date] = set()
        self.fences: dict[str, dict[int, OwnerCleared]] = {}
        """Maps the key of an owner and a version to a fence."""
        self.skipped = Skipped()
        self._epoch = epoch
        self._slice = (slice_number, slices)

    def covers(self, image_id: UUID) -> bool:
        """Whether the image is in this slice."""
        number, slices = self._slice
        return image_id.int % slices == number

    def add_commands(self, records: Iterable[ConsumedRecord]) -> None:
        """Fold records of the commands topic. Invalid records are skipped; they change no row."""
        for record in records:
            try:
                logged = read_command(record, self._epoch)
            except PoisonRecord as error:
                self.skipped.add(record, error)
                continue
            if isinstance(logged, LoggedFence) or self.covers(logged.command.image_id):
                self.add_command(logged, record.timestamp)

    def add_command(self, logged: LoggedCommand, timestamp: int = 0) -> None:
        """Fold one command. `timestamp` is its append time in milliseconds since 1970."""
        if isinstance(logged, LoggedFence):
            self.fences.setdefault(logged.command.owner.key, {})[logged.version] = logged.command
            return
        state = self._state(logged.command.image_id, logged.command.owner)
        state.unanswered.add(logged.version)
        if isinstance(logged, LoggedRenderCommand):
            state.revisions[logged.command.revision] = logged.command.original.path
            state.renders.add((logged.command.revision, logged.render))
        self._apply(state, command_writes(logged, 1, _TABLE), timestamp)

    def add_events(self, records: Iterable[ConsumedRecord]) -> None:
        """Fold records of the events topic. Records without a value are skipped, as they only serve compaction."""
        for record in records:
            if record.value is None:
                continue
            try:
                event = decode_event(record.value)
            except PoisonRecord as error:
                self.skipped.add(record, error)
                continue
            if self.covers(event.image_id):
                self.add_event(event, record.timestamp)

    def add_event(self, event: Event, timestamp: int = 0) -> None:
        """Fold one answer. `timestamp` is its append time in milliseconds since 1970."""
        state = self._state(event.image_id, event.owner)
        state.unanswered.discard(event.version)
        if not isinstance(event, Removed):
            state.revisions.setdefault(event.request.revision, event.request.path)
        self._apply(state, event_writes(event, 1, _TABLE), timestamp)

    def drop(self, about: str, version: int) -> None:
        """Forget a command that an operator has dropped from the DLQ. `about` is its image, or the owner of a fence.

        Retention may have deleted the command already.
        """
        self.fences.get(about, {}).pop(version, None)
        with suppress(ValueError):
            state = self.images.get(UUID(about))
            if state is not None:
                state.unanswered.discard(version)

    def __iter__(self) -> Iterator[ImageState]:
        return iter(self.images.values())

    def _state(self, image_id: UUID, owner: Owner) -> ImageState:
        state = self.images.get(image_id)
        if state is None:
            state = self.images[image_id] = ImageState(image_id, owner)
        return state

    def _apply(self, state: ImageState, writes: list[Write], timestamp: int) -> None:
        for write in writes:
            match write:
                case Insert(table, columns, _) if table == DAYS:
                    self.days.add(columns["day"])
                case Update(_, _, columns, version):
                    for name in columns.keys() & GROUPS.keys():
                        value = pack(columns[name])
                        state.cells.setdefault(name, Cell(version, [value])).offer(version, value)
                case Delete(_, _, version):
                    state.deleted = max(state.deleted, version)
                    state.deleted_at = max(state.deleted_at, timestamp)


def pack(value: Any) -> Any:
    """Convert a column group to a small form that can be compared: JSON for models."""
    return value.model_dump_json().encode() if isinstance(value, BaseModel) else value


def unpack(name: str, value: Any) -> Any:
    """Convert the result of `pack` back to a column group."""
    kind = GROUPS[name]
    return kind.model_validate_json(value) if issubclass(kind, BaseModel) else value
