"""The recent events of all partitions, in the order in which this gateway has read them."""

import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from uuid import UUID

from fastapi.sse import format_sse_event

from gateway.events.position import Position
from shared.contract.events import Event
from shared.contract.keys import Owner

OVERHEAD = 600
"""Bytes that an event takes beside its frame: the objects and the position."""


@dataclass(frozen=True, slots=True)
class RecentEvent:
    """An event as it is sent. `sequence` counts the events of this ring from 0.

    `end` is the number of bytes of all events up to this one. `frame` is the event on the wire, encoded once for all
    listeners: its data is the value in Kafka, its id is `position`.
    """

    sequence: int
    end: int
    arrived: float
    partition: int
    offset: int
    type: str
    image_id: UUID
    owner: Owner
    frame: bytes
    position: str

    def frame_at(self, position: str) -> bytes:
        """The event on the wire with another position as its id."""
        return self.frame.removesuffix(format_sse_event(id=self.position)) + format_sse_event(id=position)


class Ring:
    """Holds every event from `starts` on, until it is older than `max_age` seconds or the ring is full."""

    def __init__(
        self,
        epoch: int,
        starts: Sequence[int],
        *,
        max_bytes: int,
        max_age: float,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._epoch = epoch
        self._starts = list(starts)
        self._next = list(starts)
        self._events: deque[RecentEvent] = deque()
        self._max_bytes = max_bytes
        self._max_age = max_age
        self._clock = clock
        self._sequence = 0
        self._end = 0
        self.position = str(Position(epoch, tuple(starts)))
        """Position after the newest event."""

    @property
    def next_offsets(self) -> tuple[int, ...]:
        """The next offset of each partition that the ring has not seen."""
        return tuple(self._next)

    @property
    def next_sequence(self) -> int:
        """Sequence that the next event will have."""
        return self._sequence

    @property
    def oldest_sequence(self) -> int:
        """Sequence of the oldest event that the ring holds; that of the next one if it holds none."""
        return self._sequence - len(self._events)

    @property
    def end(self) -> int:
        """Bytes of all events that the ring has ever held."""
        return self._end

    @property
    def size(self) -> int:
        """Bytes of the events that it holds now."""
        oldest = self._events[0] if self._events else None
        return self._end - oldest.end + _cost(oldest.frame) if oldest else 0

    def skip(self, partition: int, offset: int) -> None:
        """A record that is no event, such as one without a value, advances the position only."""
        self._next[partition] = offset + 1
        self.position = str(Position(self._epoch, tuple(self._next)))

    def append(self, partition: int, offset: int, event: Event, value: bytes) -> RecentEvent:
        """Add the next event of a partition."""
        self.skip(partition, offset)
        frame = format_sse_event(data_str=value.decode(), event=event.type, id=self.position)
        self._end += _cost(frame)
        added = RecentEvent(
            self._sequence, self._end, self._clock(), partition, offset, event.type, event.image_id, event.owner, frame,
            self.position,
        )  # fmt: skip
        self._sequence += 1
        self._events.append(added)
        self._evict()
        return added

    def _evict(self) -> None:
        now = self._clock()
        while self._events and (self.size > self._max_bytes or now - self._events[0].arrived > self._max_age):
            gone = self._events.popleft()
            self._starts[gone.partition] = gone.offset + 1

    def covers(self, position: Position) -> bool:
        """Whether the ring holds every event after this position. False also for another epoch or partition count.

        A position beyond the newest event is covered: another gateway may have read further.
        """
        return (
            position.epoch == self._epoch
            and len(position.offsets) == len(self._starts)
            and all(map(int.__ge__, position.offsets, self._starts))
        )

    def since(self, sequence: int) -> Iterator[RecentEvent] | None:
        """The events with this sequence and later ones; None if some of them are gone.

        The iterator must be exhausted before the ring changes.
        """
        behind = self._sequence - sequence
        if behind > len(self._events):
            return None
        # An iterator of the deque would go through all older events first, for each listener that is woken.
        return map(self._events.__getitem__, range(len(self._events) - behind, len(self._events)))


def _cost(frame: bytes) -> int:
    return len(frame) + OVERHEAD
