"""Folds the log into what it says about each image: the rows there must be, and which commands wait for an answer.

Memory: one `ImageState` per image, whatever its history, but for 0.5 kB for each revision. A log with more images than
fit is folded in slices of them.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import date
from typing import Any
from uuid import UUID

from pydantic import BaseModel

from shared.consuming.record import ConsumedRecord
from shared.contract.encoding import decode_event
from shared.contract.events import Current, Event, OwnerCleared, Removed, Request
from shared.contract.keys import Owner
from shared.contract.logged_command import LoggedCommand, LoggedFence, LoggedRenderCommand, read_command
from shared.errors import PoisonRecord
from shared.read_model.tables import DAYS, IMAGES, Delete, Insert, Outcome, Write, command_writes, event_writes

GROUPS: Mapping[str, type] = {"image_version": int, "request": Request, "outcome": Outcome, "current": Current}
"""Columns that are compared, with their type. The others are part of a key or of the id."""


@dataclass(slots=True)
class Cell:
    """A column group as the log has it last. `values` are alternatives: answers that differ at one version."""

    version: int
    values: list[Any]

    def offer(self, version: int, value: Any) -> None:
        """Take the value if it is later than what there is."""
        if version > self.version:
            self.version, self.values = version, [value]
        elif version == self.version and value not in self.values:
            self.values.append(value)


@dataclass(slots=True)
class ImageState:
    """What the log says about one image."""

    image_id: UUID
    owner: Owner
    cells: dict[str, Cell] = field(default_factory=dict)
    deleted: int = -1
    """Version of the latest deletion; whatever is not later is gone."""
    deleted_at: int = 0
    """When the latest deletion was recorded, in milliseconds since 1970."""
    revisions: dict[UUID, str] = field(default_factory=dict)
    """Key of each revision's original."""
    renders: set[tuple[UUID, str]] = field(default_factory=set)
    """Revision and folder of each render that was asked for, as far back as the log goes."""
    unanswered: set[int] = field(default_factory=set)
    """Versions of commands that have no answer yet."""

    def live(self) -> dict[str, Cell]:
        """Cells that no deletion shadows; empty where there must be no row."""
        return {name: cell for name, cell in self.cells.items() if cell.version > self.deleted}

    @property
    def is_removed(self) -> bool:
        """Whether the log says that the image is gone."""
        return self.deleted >= 0 and not self.live()

    def value(self, name: str) -> Any:
        """A live column group, unpacked; None where there is none. Of alternatives the first."""
        cell = self.live().get(name)
        return unpack(name, cell.values[0]) if cell else None


class Fold:
    """States of all images, or of one slice of them, folded with the same function as the index is written with."""

    def __init__(self, epoch: int, slice_number: int = 0, slices: int = 1) -> None:
        self.images: dict[UUID, ImageState] = {}
        self.days: set[date] = set()
        self.fences: dict[str, dict[int, OwnerCleared]] = {}
        """By the owner's key and the version."""
        self.poison = 0
        self._epoch = epoch
        self._slice = (slice_number, slices)

    def covers(self, image_id: UUID) -> bool:
        """Whether the image is in this slice."""
        number, slices = self._slice
        return image_id.int % slices == number

    def add_commands(self, records: Iterable[ConsumedRecord]) -> None:
        """Fold records of the commands topic; what cannot be read is counted, for it changes no row either."""
        for record in records:
            try:
                logged = read_command(record, self._epoch)
            except PoisonRecord:
                self.poison += 1
                continue
            if isinstance(logged, LoggedFence) or self.covers(logged.command.image_id):
                self.add_command(logged, record.timestamp)

    def add_command(self, logged: LoggedCommand, timestamp: int = 0) -> None:
        """Fold one command. `timestamp`: when it was recorded, in milliseconds since 1970."""
        if isinstance(logged, LoggedFence):
            self.fences.setdefault(logged.command.owner.key, {})[logged.version] = logged.command
            return
        state = self._state(logged.command.image_id, logged.command.owner)
        state.unanswered.add(logged.version)
        if isinstance(logged, LoggedRenderCommand):
            state.revisions[logged.command.revision] = logged.command.original.path
            state.renders.add((logged.command.revision, logged.render))
        self._apply(state, command_writes(logged, 1), timestamp)

    def add_events(self, records: Iterable[ConsumedRecord]) -> None:
        """Fold records of the events topic; a null only says that compaction may forget a key."""
        for record in records:
            if record.value is None:
                continue
            try:
                event = decode_event(record.value)
            except PoisonRecord:
                self.poison += 1
                continue
            if self.covers(event.image_id):
                self.add_event(event, record.timestamp)

    def add_event(self, event: Event, timestamp: int = 0) -> None:
        """Fold one answer. `timestamp` as in `add_command`."""
        state = self._state(event.image_id, event.owner)
        state.unanswered.discard(event.version)
        if not isinstance(event, Removed):
            state.revisions.setdefault(event.request.revision, event.request.path)
        self._apply(state, event_writes(event, 1), timestamp)

    def give_up(self, about: str, version: int) -> None:
        """Somebody has decided that this command is never to be handled. `about`: its image, or a fence's owner."""
        if about in self.fences:
            self.fences[about].pop(version, None)
        else:
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
                # The three tables of images hold the same columns: one of them tells for all.
                case Insert(table, columns, version) if table == IMAGES:
                    for name in columns.keys() & GROUPS.keys():
                        value = pack(columns[name])
                        state.cells.setdefault(name, Cell(version, [value])).offer(version, value)
                case Delete(table, _, version) if table == IMAGES:
                    state.deleted = max(state.deleted, version)
                    state.deleted_at = max(state.deleted_at, timestamp)


def pack(value: Any) -> Any:
    """A column group in a form that is small and comparable: JSON for models."""
    return value.model_dump_json().encode() if isinstance(value, BaseModel) else value


def unpack(name: str, value: Any) -> Any:
    """The column group that was packed."""
    kind = GROUPS[name]
    return kind.model_validate_json(value) if issubclass(kind, BaseModel) else value
