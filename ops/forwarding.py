"""Sends events to a URL of a developer's own, as CloudEvents over HTTP in binary mode."""

import asyncio
import time
from dataclasses import dataclass
from datetime import datetime
from itertools import count

import httpx

from imagepipe_client import Retry
from shared.contract.encoding import encode
from shared.contract.events import Event
from shared.contract.headers import cloud_event_headers

SOURCE = "imagepipe/processor"
"""Events are the processor's answers."""
TIMEOUT_SECONDS = 10.0
RETRY = Retry(attempts=5, first_pause=0.5, longest_pause=4.0)
"""About eight seconds in all: a developer's server restarts in less."""


@dataclass(frozen=True)
class Delivery:
    """What became of one event. `status` is the last response, None if there was none; then `error` has the reason."""

    event: Event
    status: int | None
    error: str | None
    attempts: int
    seconds: float

    @property
    def accepted(self) -> bool:
        """Whether the URL answered 2xx."""
        return self.status is not None and 200 <= self.status < 300

    def line(self) -> str:
        """One line for people, of at most 80 columns."""
        answer = f"{self.status} {self.seconds:.1f}s" if self.status else "no answer"
        repeated = f" x{self.attempts}" if self.attempts > 1 else ""
        now = f"{datetime.now():%H:%M:%S}"
        mark = "✓" if self.accepted else "✗"
        return f"{mark} {now} {self.event.type:<16} {self.event.image_id} {answer}{repeated}"


def http_headers(event: Event) -> dict[str, str]:
    """The CloudEvents headers of the event's record in Kafka, as HTTP has them: `ce-id` for `ce_id`."""
    return {name.replace("_", "-"): value.decode() for name, value in cloud_event_headers(event, SOURCE)}


async def forward(http: httpx.AsyncClient, url: str, event: Event, retry: Retry = RETRY) -> Delivery:
    """POST an event until the URL accepts it (2xx). It is repeated after a lost connection, 408, 429 and 5xx."""
    began = time.monotonic()
    status: int | None = None
    error: str | None = None
    for attempt in count(1):
        try:
            answer = await http.post(url, content=encode(event), headers=http_headers(event), timeout=TIMEOUT_SECONDS)
            status, error = answer.status_code, None
        except httpx.TransportError as failure:
            status, error = None, type(failure).__name__
        final = status is not None and status < 500 and status not in (408, 429)
        if final or attempt >= retry.attempts:
            return Delivery(event, status, error, attempt, time.monotonic() - began)
        await asyncio.sleep(retry.pause(attempt))
    raise AssertionError("count never ends")
