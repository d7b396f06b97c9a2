"""`Prefer: wait=N` (RFC 7240): holds a response back until the variants are ready or N seconds have passed.

A request wakes when the answer to it arrives from Kafka. It also reads the row by itself from time to time, because
the answer may have come before the request waits, and because Kafka may be unavailable to this process.
"""

import asyncio
import re
import time
from collections.abc import Iterable
from contextlib import suppress
from datetime import timedelta
from typing import Any
from uuid import UUID

from gateway.services.answers import Answers
from gateway.services.changes import Changes
from shared.contract.keys import parse_media_path
from shared.errors import Unavailable
from shared.observability.metrics import WAITING_REQUESTS
from shared.ports import Index
from shared.read_model.documents import document
from shared.retry import Backoff

MAX_WAITING = 500
"""Requests of one process that wait at the same time. Any further request gets its response without a wait."""
FIRST_PAUSE = 0.05
LONGEST_PAUSE = 1.0
"""Seconds between two reads of the row without an answer. A read takes about a millisecond."""

_WAIT = re.compile(r"(?:^|[,;])\s*wait\s*=\s*\"?(\d+)\"?\s*(?=$|[,;])", re.IGNORECASE)


def wait_of(headers: Iterable[str], longest: timedelta) -> float:
    """Seconds that the client prefers to wait, at most `longest`; 0 without a valid preference.

    A number too large for a float counts as infinite, and so as `longest`.
    """
    for header in headers:
        if match := _WAIT.search(header):
            return min(float(match[1]), longest.total_seconds())
    return 0.0


class Waiting:
    """The requests of one process that wait, none longer than `longest`. Use it from one event loop only."""

    def __init__(self, index: Index, changes: Changes, answers: Answers, base_url: str, longest: timedelta) -> None:
        self.longest = longest
        self._index = index
        self._changes = changes
        self._answers = answers
        self._base_url = base_url
        self._waiting = 0

    async def settled(self, documents: list[dict[str, Any]], seconds: float) -> list[dict[str, Any]] | None:
        """The documents once no image is `processing`, or after so many seconds; None if too many requests wait."""
        if self._waiting >= MAX_WAITING:
            return None
        self._waiting += 1
        try:
            deadline = time.monotonic() + seconds
            with WAITING_REQUESTS.track_inprogress():
                return await asyncio.gather(*(self._settled(found, deadline) for found in documents))
        finally:
            self._waiting -= 1

    async def _settled(self, found: dict[str, Any], deadline: float) -> dict[str, Any]:
        with self._answers.awaited(UUID(found["image_id"])) as answered:
            return await self._poll(found, deadline, answered)

    async def _poll(self, found: dict[str, Any], deadline: float, answered: asyncio.Event) -> dict[str, Any]:
        awaited, backoff = _revision(found), Backoff(FIRST_PAUSE, LONGEST_PAUSE, factor=1.5)
        while found["status"] == "processing" and (left := deadline - time.monotonic()) > 0:
            with suppress(TimeoutError):
                async with asyncio.timeout(min(backoff.next_pause(), left)):
                    await answered.wait()
            answered.clear()
            try:
                row = await self._index.image(UUID(found["image_id"]))
            except Unavailable:
                # The write itself is done, so its response is a success even if the status is unknown.
                return found
            # The row may show another request: an older one, if the row is not written yet, or a later one.
            if row is not None and row.request is not None and row.request.revision == awaited:
                found = document(row, self._base_url)
                if found["status"] != "processing":
                    # The next read of this client must not find `processing` in a cache.
                    self._changes.notify(row.image_id, row.owner)
        return found


def _revision(found: dict[str, Any]) -> UUID | None:
    """The revision that this document calls `processing`."""
    if found["pending"]:
        return UUID(found["pending"]["revision"])
    path = parse_media_path(found["original"]["path"])
    return path.revision if path else None
