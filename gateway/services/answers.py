"""Notices the answers of the processor when they arrive, for the requests that wait for them and for the caches.

The event of an answer comes before its rows: the indexer reads the event at the same time as this process. So the row
is read until it shows the answer. Only then the waiting requests go on, and the caches forget the image: a page that
was loaded before may lack the answer. An event shortens a wait and the age of a cached value, and nothing depends on
it: requests also read the row by themselves, and cached values expire.
"""

import asyncio
import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from uuid import UUID

import structlog

from gateway.services.changes import Changes
from shared.contract.events import Event
from shared.errors import Unavailable
from shared.ports import Index
from shared.read_model.documents import shows
from shared.retry import Backoff

log = structlog.get_logger()

LONGEST_SECONDS = 1.0
"""How long the row is read again. Cached values expire after that time anyway."""
FIRST_PAUSE = 0.005
LONGEST_PAUSE = 0.1
"""Seconds between two reads of the row. On an idle stack the indexer has written it after some milliseconds."""
MAX_AT_ONCE = 64
"""Answers whose rows are read at the same time. Further ones have no effect here."""


class Answers:
    """The answers that arrive in this process. Use it from one event loop only."""

    def __init__(self, index: Index, changes: Changes) -> None:
        self._index = index
        self._changes = changes
        self._awaited: defaultdict[UUID, set[asyncio.Event]] = defaultdict(set)
        self._running: set[asyncio.Task[None]] = set()

    @contextmanager
    def awaited(self, image_id: UUID) -> Iterator[asyncio.Event]:
        """An event of asyncio that is set whenever the image's row shows another answer."""
        woken = asyncio.Event()
        self._awaited[image_id].add(woken)
        try:
            yield woken
        finally:
            self._awaited[image_id].discard(woken)
            if not self._awaited[image_id]:
                del self._awaited[image_id]

    def arrived(self, event: Event) -> None:
        """Look for the answer in the row, if a request waits for it or if a cache may lack it."""
        wanted = event.image_id in self._awaited or self._changes.concern(event.image_id, event.owner)
        if not wanted or len(self._running) >= MAX_AT_ONCE:
            return
        task = asyncio.create_task(self._follow(event))
        self._running.add(task)
        task.add_done_callback(self._running.discard)

    async def _follow(self, event: Event) -> None:
        try:
            shown = await self._shown(event)
        except Unavailable:
            return
        except Exception as error:
            log.warning("answer_not_noticed", image_id=str(event.image_id), error=f"{type(error).__name__}: {error}")
            return
        if shown:
            self._changes.notify(event.image_id, event.owner)
            for woken in self._awaited.get(event.image_id, ()):
                woken.set()

    async def _shown(self, event: Event) -> bool:
        """Whether the row shows the answer within LONGEST_SECONDS. Raises Unavailable."""
        deadline, backoff = time.monotonic() + LONGEST_SECONDS, Backoff(FIRST_PAUSE, LONGEST_PAUSE)
        while not shows(await self._index.image(event.image_id), event):
            if time.monotonic() >= deadline:
                return False
            await asyncio.sleep(backoff.next_pause())
        return True
