"""Repeats requests that may succeed later: refused for lack of capacity, an engine unavailable, no response."""

import random
from dataclasses import dataclass
from itertools import count

import httpx

from imagepipe_client.errors import ConnectionFailed, Problem, problem_of
from imagepipe_client.steps import Request, Steps, pause, send


@dataclass(frozen=True)
class Retry:
    """How often and how slowly a request is repeated. `Retry(attempts=1)` repeats nothing.

    The pauses double from `first_pause` to `longest_pause` seconds, with up to half of each taken off at random, so
    that clients do not return at the same moment. A longer `Retry-After` counts instead, up to `longest_pause`.
    """

    attempts: int = 6
    first_pause: float = 0.5
    longest_pause: float = 30.0

    def pause(self, attempt: int, retry_after: float | None = None) -> float:
        """Seconds to wait after this attempt (from 1) has failed."""
        own = self.first_pause * 2.0 ** min(attempt - 1, 30) * random.uniform(0.5, 1)
        return min(self.longest_pause, max(own, retry_after or 0.0))


def call(request: Request, retry: Retry, *, repeated_404_is_done: bool = False) -> Steps[httpx.Response]:
    """The successful response to a request, which is repeated as `retry` allows.

    With `repeated_404_is_done` a 404 to a repetition is returned too: the first attempt has deleted the image, and its
    answer was lost. Raises Problem and ConnectionFailed.
    """
    for attempt in count(1):
        failure: Problem | ConnectionFailed
        try:
            response = yield from send(request)
        except httpx.TransportError as error:
            failure = connection_failed(error)
        else:
            if response.is_success or (repeated_404_is_done and attempt > 1 and response.status_code == 404):
                return response
            failure = problem_of(response)
            if not failure.is_temporary:
                raise failure
        if attempt >= retry.attempts:
            raise failure
        yield from pause(retry.pause(attempt, failure.retry_after))
    raise AssertionError("count never ends")


def connection_failed(error: httpx.TransportError) -> ConnectionFailed:
    """The error of this package for one of httpx, which is its cause."""
    failure = ConnectionFailed(f"{type(error).__name__}: {error}".rstrip(": "))
    failure.__cause__ = error
    return failure
