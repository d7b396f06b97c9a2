"""The listeners of one gateway: whom an event wakes, and what each of them is sent."""

import asyncio
import random
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from uuid import UUID

from fastapi.sse import format_sse_event

from gateway.events.position import Position
from gateway.events.ring import RecentEvent, Ring
from gateway.events.rounds import Rounds
from shared.contract.keys import Owner
from shared.errors import Unavailable
from shared.observability.metrics import EVENT_LISTENERS, EVENT_LISTENERS_DROPPED

KEEP_ALIVE_SECONDS = 15.0
"""Without an event for so long a listener gets its position, which also keeps the connections of proxies open."""
MAX_BEHIND = 1024 * 1024
"""Bytes of events after which a listener that does not read is dropped. The buffers of its connection come on top."""
RETRY_MS = (2_000, 5_000)
"""Between these a client waits before it connects again, so that not all come back at the same moment."""
BATCH_BYTES = 64 * 1024


class TooManyListeners(Exception):  # noqa: N818 - it is a limit
    """This gateway has as many listeners as it may have."""


@dataclass(frozen=True)
class Selection:
    """Which events a listener wants. Empty owners or types mean all; `image_id` None means every image."""

    owners: frozenset[Owner] = frozenset()
    types: frozenset[str] = frozenset()
    image_id: UUID | None = None

    def wants(self, event: RecentEvent) -> bool:
        """Whether the listener gets this event."""
        return (
            (not self.owners or event.owner in self.owners)
            and (not self.types or event.type in self.types)
            and self.image_id in (None, event.image_id)
        )


@dataclass(eq=False)
class _Listener:
    selection: Selection
    news: asyncio.Event = field(default_factory=asyncio.Event)
    unsent: int = 0
    """Bytes of the events that it wants and has not been sent."""
    is_quiet: bool = False
    """Whether it has been sent nothing for KEEP_ALIVE_SECONDS."""
    _sent_at: float = 0.0
    _timer: asyncio.TimerHandle | None = None

    def sent(self) -> None:
        """Begin the quiet time anew."""
        self.is_quiet = False
        self._sent_at = asyncio.get_running_loop().time()
        if self._timer is None:
            self._watch()

    def _watch(self) -> None:
        """Wake the listener at the end of its quiet time. One timer in all that time costs less than one an event."""
        loop = asyncio.get_running_loop()
        left = self._sent_at + KEEP_ALIVE_SECONDS - loop.time()
        if left <= 0:
            self.is_quiet = True
            self.news.set()
            left = KEEP_ALIVE_SECONDS
        self._timer = loop.call_later(left, self._watch)

    def end(self) -> None:
        """Stop the timer."""
        if self._timer is not None:
            self._timer.cancel()


class Listeners:
    """Use it from one event loop. `ring` is None until the reader has read the recent events."""

    def __init__(self, limit: int, clock: Callable[[], float] = time.monotonic) -> None:
        self.ring: Ring | None = None
        self._limit = limit
        self._clock = clock
        self._listeners: set[_Listener] = set()
        self._rounds = Rounds()
        self._closed = False

    def open(self, ring: Ring) -> None:
        """From now on listeners are served from this ring. Those of an earlier one end, and connect again."""
        self.ring = ring
        self._wake_all()

    def published(self, event: RecentEvent) -> None:
        """Wake the listeners that want this event."""
        for listener in self._listeners:
            if listener.selection.wants(event):
                listener.unsent += len(event.frame)
                self._rounds.add(listener.news)

    def close(self) -> None:
        """End all streams."""
        self._closed = True
        self._wake_all()

    def _wake_all(self) -> None:
        for listener in self._listeners:
            listener.news.set()

    @contextmanager
    def _joined(self, selection: Selection) -> Iterator[_Listener]:
        listener = _Listener(selection)
        self._listeners.add(listener)
        EVENT_LISTENERS.set(len(self._listeners))
        try:
            yield listener
        finally:
            listener.end()
            self._listeners.discard(listener)
            EVENT_LISTENERS.set(len(self._listeners))

    def check(self) -> Ring:
        """The ring, if another listener can be served. Raises TooManyListeners, and Unavailable without a ring."""
        if self.ring is None or self._closed:
            raise Unavailable("kafka", "the recent events are not read yet")
        if len(self._listeners) >= self._limit:
            raise TooManyListeners
        return self.ring

    async def stream(self, selection: Selection, last_id: str | None) -> AsyncIterator[bytes]:
        """Server-sent events from now on, or from the position `last_id` on.

        The first event is `resync` if the ring does not reach back to that position. The stream ends when the listener
        is too slow, when the ring is replaced, and when the gateway stops; the client connects again by itself.
        Raises TooManyListeners and Unavailable, before the first item only.
        """
        ring = self.check()
        with self._joined(selection) as listener:
            cursor = _Cursor(ring, selection, last_id)
            listener.sent()
            yield cursor.greeting()
            while not self._closed and self.ring is ring:
                listener.news.clear()
                is_slow = listener.unsent > MAX_BEHIND and not cursor.resumes
                frames, sent = cursor.frames()
                listener.unsent = max(0, listener.unsent - sent)
                if is_slow or frames is None:
                    EVENT_LISTENERS_DROPPED.inc()
                    return
                if not frames and listener.is_quiet:
                    frames = cursor.keep_alive()
                if frames:
                    listener.sent()
                    yield frames
                else:
                    await listener.news.wait()


class _Cursor:
    """Where one listener is in the ring."""

    def __init__(self, ring: Ring, selection: Selection, last_id: str | None) -> None:
        self._ring = ring
        self._selection = selection
        self._sequence = ring.next_sequence
        self._seen: list[int] | None = None
        self._needs_resync = False
        position = Position.parse(last_id) if last_id is not None else None
        if position is not None and ring.covers(position):
            self._sequence = ring.oldest_sequence
            self._seen = list(position.offsets)
        elif last_id is not None:
            self._needs_resync = True

    def greeting(self) -> bytes:
        """The time to wait before the next connection, and where the stream begins."""
        retry = random.randint(*RETRY_MS)
        if self._needs_resync:
            return format_sse_event(
                data_str='{"reason":"the events after the given position are no longer kept here"}',
                event="resync", id=self._ring.position, retry=retry,
            )  # fmt: skip
        return format_sse_event(id=self._id(self._ring.position) if self._seen is None else None, retry=retry)

    def keep_alive(self) -> bytes:
        """The position without an event: a listener of a quiet owner can resume as long as any other."""
        return format_sse_event(id=self._id(self._ring.position), comment="")

    @property
    def resumes(self) -> bool:
        """Whether the listener still gets events from before it connected."""
        return self._seen is not None

    def frames(self) -> tuple[bytes | None, int]:
        """The next events on the wire, at most a batch, and the bytes by which the listener is less behind.

        Empty if there are none, and None if the ring no longer has the next one.
        """
        events = self._ring.since(self._sequence)
        if events is None:
            return None, 0
        parts: list[bytes] = []
        sent = 0
        for event in events:
            self._sequence = event.sequence + 1
            if self._is_new(event) and self._selection.wants(event):
                parts.append(event.frame if self._seen is None else event.frame_at(self._id(event.position)))
                sent += len(event.frame)
                if sent >= BATCH_BYTES:
                    break
        else:
            self._caught_up()
        # One event is passed on as it is: a copy for each listener would cost more than the rest of its wake-up.
        return parts[0] if len(parts) == 1 else b"".join(parts), sent

    def _caught_up(self) -> None:
        """Once the ring has everything that this listener has seen, its position is the ring's."""
        if self._seen is not None and all(map(int.__ge__, self._ring.next_offsets, self._seen)):
            self._seen = None

    def _is_new(self, event: RecentEvent) -> bool:
        if self._seen is None:
            return True
        if event.offset < self._seen[event.partition]:
            return False
        self._seen[event.partition] = event.offset + 1
        return True

    def _id(self, position: str) -> str:
        """The position of this listener once it has seen the ring up to `position`.

        A listener that has resumed may be ahead of the ring in some partitions: another gateway had read further.
        """
        if self._seen is None:
            return position
        reached = Position.parse(position)
        assert reached is not None
        if all(map(int.__ge__, reached.offsets, self._seen)):
            return position
        return str(Position(reached.epoch, tuple(map(max, reached.offsets, self._seen))))
