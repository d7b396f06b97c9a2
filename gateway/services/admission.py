"""Bounds what uploads cost this process: how many there are at once, and how many bytes they hold in memory."""

from collections.abc import Iterator
from contextlib import contextmanager

from gateway.http.problems import Problem
from shared.observability.metrics import REFUSED, UPLOAD_BYTES, UPLOADS_IN_FLIGHT

RETRY_AFTER = {"Retry-After": "1"}
"""An upload takes a fraction of a second on a healthy stack, so a place is soon free."""


class Admission:
    """Slots and bytes of one process; used from one event loop only."""

    def __init__(self, slots: int, memory: int) -> None:
        self._slots = slots
        self._memory = memory
        self._used = 0
        self._held = 0

    @contextmanager
    def admit(self) -> Iterator["Reservation"]:
        """A slot for one request, given back at the end with its bytes. Raises Problem `saturated`."""
        if self._used >= self._slots:
            raise _saturated("slots", f"{self._slots} uploads are under way")
        self._used += 1
        UPLOADS_IN_FLIGHT.set(self._used)
        reservation = Reservation(self)
        try:
            yield reservation
        finally:
            self._used -= 1
            UPLOADS_IN_FLIGHT.set(self._used)
            self._hold(-reservation.size)

    def _hold(self, size: int) -> None:
        if size > 0 and self._held + size > self._memory:
            raise _saturated("memory", f"uploads under way hold {self._held} bytes")
        self._held += size
        UPLOAD_BYTES.set(self._held)


class Reservation:
    """Bytes that one request holds in memory."""

    def __init__(self, admission: Admission) -> None:
        self._admission = admission
        self.size = 0

    def grow(self, size: int) -> None:
        """Hold this many bytes more. Raises Problem `saturated` where memory has no room for them."""
        self._admission._hold(size)
        self.size += size

    def shrink(self, size: int) -> None:
        """Hold this many bytes less."""
        self._admission._hold(-size)
        self.size -= size


def _saturated(what: str, detail: str) -> Problem:
    REFUSED.labels(what).inc()
    return Problem("saturated", detail, headers=RETRY_AFTER)
