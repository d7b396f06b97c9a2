"""What goes with a record into the DLQ, and how many may go before the process stops instead (invariant 10)."""

import time
import traceback
from collections import deque
from collections.abc import Callable

from shared.contract.headers import Headers, ReceivedHeaders
from shared.errors import ImagepipeError

MAX_ERROR_BYTES = 500
MAX_STACK_BYTES = 4000
"""Bounds what is added, so that a record that fitted into its topic fits into the DLQ, which takes larger ones."""


class TooManyDeadLetters(ImagepipeError):  # noqa: N818
    """So many records in a row cannot be handled that the fault is not theirs: stop, and keep them in their topic."""


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
    """The record's own headers that have a value, untouched, and after them why and from where it went to the DLQ.

    `topic` is the physical name. `version` is left out where the record does not tell (an event that cannot be read).
    """
    stack = "".join(traceback.format_exception(error))
    added = {
        "dlq-source-topic": topic,
        "dlq-source-partition": str(partition),
        "dlq-source-offset": str(offset),
        "dlq-version": None if version is None else str(version),
        "dlq-error": _bounded(f"{type(error).__name__}: {error}", MAX_ERROR_BYTES),
        # The end of a stack is where the error was raised.
        "dlq-stack": _encode(stack)[-MAX_STACK_BYTES:].decode(errors="ignore"),
        "dlq-attempts": str(attempts),
    }
    own = [(name, value) for name, value in headers if value is not None]
    return [*own, *((name, value.encode()) for name, value in added.items() if value is not None)]


def _bounded(text: str, size: int) -> str:
    return _encode(text)[:size].decode(errors="ignore")


def _encode(text: str) -> bytes:
    # An error may quote lone surrogates, which have no UTF-8 form.
    return text.encode(errors="backslashreplace")


class DeadLetterLimit:
    """At most `per_minute` dead letters in any minute."""

    def __init__(self, per_minute: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._per_minute = per_minute
        self._clock = clock
        self._times: deque[float] = deque()

    def take(self) -> None:
        """Count one. Raises TooManyDeadLetters when the minute has no room for it."""
        now = self._clock()
        while self._times and now - self._times[0] >= 60:
            self._times.popleft()
        if len(self._times) >= self._per_minute:
            raise TooManyDeadLetters(f"{self._per_minute} records went to the DLQ within a minute")
        self._times.append(now)
