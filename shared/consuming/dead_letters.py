"""The headers of a dead letter, and the limit of dead letters per minute at which the process stops (invariant 10)."""

import time
import traceback
from collections import deque
from collections.abc import Callable

from shared.contract.headers import Headers, ReceivedHeaders
from shared.errors import ImagepipeError

MAX_ERROR_BYTES = 500
MAX_STACK_BYTES = 4000
"""Maximum size of the error and the stack in the headers. A record that fits into its topic then also fits into the
DLQ, whose limit is higher (MAX_RECORD_BYTES)."""


PREFIX = "dlq-"
"""Begins the names of the headers that are added to a dead letter."""
KEPT_PREFIX = f"{PREFIX}kept:"
"""Goes before the name of a header of the record itself that begins with PREFIX. Without it the record could state
why, and from where, it is in the DLQ."""
SOURCE_TOPIC = f"{PREFIX}source-topic"
"""Every dead letter has this header, and nothing else in the DLQ has."""


class TooManyDeadLetters(ImagepipeError):  # noqa: N818
    """More records failed than the limit allows, so the cause is not the records. The process stops and keeps them."""


def dead_letter_headers(
    headers: ReceivedHeaders,
    *,
    topic: str,
    partition: int,
    offset: int,
    version: int | None,
    error: BaseException,
    attempts: int,
) -> Headers:
    """Headers of a dead letter: the record's own headers that have a value, then its source and its error.

    Own headers whose names begin with PREFIX are renamed; `record_headers` gives all of them back.
    `topic` is the name in Kafka. `version` is None if it is unknown (an event that cannot be parsed).
    """
    stack = "".join(traceback.format_exception(error))
    added = {
        SOURCE_TOPIC: topic,
        "dlq-source-partition": str(partition),
        "dlq-source-offset": str(offset),
        "dlq-version": None if version is None else str(version),
        "dlq-error": _bounded(f"{type(error).__name__}: {error}", MAX_ERROR_BYTES),
        # Keep the end of the stack: it shows where the error was raised.
        "dlq-stack": _encode(stack)[-MAX_STACK_BYTES:].decode(errors="ignore"),
        "dlq-attempts": str(attempts),
    }
    own = [
        (KEPT_PREFIX + name if name.startswith(PREFIX) else name, value) for name, value in headers if value is not None
    ]
    return [*own, *((name, value.encode()) for name, value in added.items() if value is not None)]


def record_headers(headers: Headers) -> Headers:
    """The headers that a dead letter's record had in its topic."""
    return [
        (name.removeprefix(KEPT_PREFIX), value)
        for name, value in headers
        if not name.startswith(PREFIX) or name.startswith(KEPT_PREFIX)
    ]


def _bounded(text: str, size: int) -> str:
    return _encode(text)[:size].decode(errors="ignore")


def _encode(text: str) -> bytes:
    # The text may contain lone surrogates, which UTF-8 cannot encode.
    return text.encode(errors="backslashreplace")


class DeadLetterLimit:
    """Limits the dead letters of a process to `per_minute` in any 60 seconds."""

    def __init__(self, per_minute: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._per_minute = per_minute
        self._clock = clock
        self._times: deque[float] = deque()

    def take(self) -> None:
        """Count one dead letter. Raises TooManyDeadLetters if it exceeds the limit."""
        now = self._clock()
        while self._times and now - self._times[0] >= 60:
            self._times.popleft()
        if len(self._times) >= self._per_minute:
            raise TooManyDeadLetters(f"{self._per_minute} records were written to the DLQ within a minute")
        self._times.append(now)
