"""Bounds the number of concurrent uploads of this process, and the bytes that these hold in memory."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from gateway.http.problems import Problem
from shared.observability.metrics import REFUSED, UPLOAD_BYTES, UPLOADS_IN_FLIGHT

RETRY_AFTER = {"Retry-After": "1"}
"""An upload takes less than a second on a healthy stack, so a slot is free again soon."""


class Admission:
    """Slots and bytes of one process. Use it from one event loop only."""

    def __init__(self, slots: int, memory: int) -> None:
        self._slots = slots
        self._memory = memory
        self._used = 0
        self._held = 0

    @contextmanager
    def admit(self) -> Iterator["Reservation"]:
        """Take a slot for one request. The end of the context frees it and its bytes. Raises Problem `saturated`."""
        if self._used >= self._slots:
            raise _saturated("slots", f"{self._slots} uploads are in progress")
        self._used += 1
        UPLOADS_IN_FLIGHT.set(self._used)
        reservation = Reservation(self._hold)
        try:
            yield reservation
        finally:
            self._used -= 1
            UPLOADS_IN_FLIGHT.set(self._used)
            self._hold(-reservation.size)

    def _hold(self, size: int) -> None:
        if size > 0 and self._held + size > self._memory:
            raise _saturated("memory", f"uploads in progress hold {self._held} bytes")
        self._held += size
        UPLOAD_BYTES.set(self._held)


class Reservation:
    """Bytes that one request holds in memory."""

    def __init__(self, hold: Callable[[int], None]) -> None:
        self._hold = hold
        self.size = 0

    def grow(self, size: int) -> None:
        """Reserve so many bytes more. Raises Problem `saturated` if the process has no memory left for them."""
        self._hold(size)
        self.size += size

    def shrink(self, size: int) -> None:
        """Free so many bytes."""
        self._hold(-size)
        self.size -= size


def _saturated(what: str, detail: str) -> Problem:
    REFUSED.labels(what).inc()
    return Problem("saturated", detail, headers=RETRY_AFTER)
