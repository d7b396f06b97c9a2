"""What is compared: the rows of all tables, and the document that a client gets."""

import random
from collections.abc import Callable, Iterable, Sequence
from typing import Any, TypeVar
from uuid import UUID

from shared.contract.events import Event, event_key
from shared.contract.logged_command import LoggedCommand
from shared.read_model.documents import ImageRow, document
from shared.read_model.tables import BY_DAY, BY_OWNER, DAYS, FENCES, IMAGES, Write, command_writes, event_writes
from tests.convergence.histories import History
from tests.support.memory.ports import MemoryIndex
from tests.support.records import BASE

T = TypeVar("T")
SHARDS = 4
TABLES = (IMAGES, BY_OWNER, BY_DAY, DAYS, FENCES)
Rows = dict[str, dict[tuple[Any, ...], dict[str, Any]]]


def higher_wins(new: str, old: str) -> bool:
    """One way to break ties of two values at one timestamp; Cassandra takes the greater bytes."""
    return new > old


def lower_wins(new: str, old: str) -> bool:
    """The opposite way to break ties. No document may depend on it."""
    return new < old


def writes_of(commands: Iterable[LoggedCommand], events: Iterable[Event]) -> list[list[Write]]:
    """Writes of each record, in the order given: commands first."""
    return [
        *(command_writes(logged, SHARDS) for logged in commands),
        *(event_writes(event, SHARDS) for event in events),
    ]


def shuffled(items: Sequence[T], rng: random.Random) -> list[T]:
    """The items in any order, some of them several times."""
    repeated = [*items, *(item for item in items if rng.random() < 0.4)]
    rng.shuffle(repeated)
    return repeated


def fold(records: Iterable[Iterable[Write]], wins_tie: Callable[[str, str], bool] = higher_wins) -> MemoryIndex:
    """The index after these writes, one at a time."""
    index = MemoryIndex(wins_tie)
    for writes in records:
        for write in writes:
            index.apply_one(write)
    return index


def rows(index: MemoryIndex) -> Rows:
    """Every live row of every table."""
    return {table: index.table(table) for table in TABLES}


def compacted(events: Sequence[Event], upto: int) -> list[Event]:
    """The events topic after a compaction of its first `upto` records: the last per key of them, then the rest."""
    last = {event_key(event): position for position, event in enumerate(events[:upto])}
    return [event for position, event in enumerate(events) if position >= upto or last[event_key(event)] == position]


async def told(index: MemoryIndex, history: History) -> dict[str, Any] | None:
    """The document of the history's image; None if there is none."""
    return view(await index.image(image_id(history)))


def image_id(history: History) -> UUID:
    """The one image of the history."""
    return history.events[0].image_id


def view(row: ImageRow | None) -> dict[str, Any] | None:
    """The document without the text of errors, because two attempts may fail in two ways."""
    if row is None:
        return None
    found = document(row, BASE)
    found["error"] = found["error"] is not None
    if found["pending"]:
        found["pending"]["error"] = found["pending"]["error"] is not None
    return found
