"""Bounds the concurrent uploads of this process and of each client, and the bytes that uploads hold in memory.

A client that sends slowly holds a slot as long as its upload takes. So a client may take another slot only while it
has fewer slots than are free (the dynamic threshold of Choudhury and Hahne, IEEE/ACM Transactions on Networking 6(2),
1998, with factor 1). One client alone gets half of the slots, two get a third each, and n clients n/(n+1) of them
together. So a part stays free for the next client, without a number that would fit only some deployments.
"""

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address

from starlette.requests import Request

from gateway.http.problems import Problem
from shared.observability.metrics import REFUSED, UPLOAD_BYTES, UPLOADS_IN_FLIGHT

RETRY_AFTER = {"Retry-After": "1"}
"""An upload takes less than a second on a healthy stack, so a slot is free again soon."""
IPV6_CLIENT_BITS = 64
"""A client with IPv6 can use every address of its subnet, which has a prefix of 64 bits (RFC 4291, section 2.5.4)."""
UNKNOWN = "unknown"
"""All clients without an IP address count as one."""

Network = IPv4Network | IPv6Network


class Admission:
    """Slots and bytes of one process. Use it from one event loop only."""

    def __init__(self, slots: int, memory: int, trusted: Sequence[Network] = ()) -> None:
        """Clients whose address is in one of the `trusted` networks may use all slots."""
        self._slots = slots
        self._memory = memory
        self._trusted = trusted
        self._used: Counter[str | None] = Counter()
        self._held = 0

    @property
    def in_progress(self) -> int:
        """Uploads that have a slot."""
        return self._used.total()

    @property
    def free(self) -> int:
        """Slots that no upload has. One client gets a part of them only."""
        return self._slots - self.in_progress

    @contextmanager
    def admit(self, address: str | None) -> Iterator["Reservation"]:
        """Take a slot for a request from this address. The end of the context frees it and its bytes.

        Raises Problem `saturated` if no slot is free, or none for this client.
        """
        client = self._client(address)
        self._check_slots(client)
        self._used[client] += 1
        UPLOADS_IN_FLIGHT.set(self._used.total())
        reservation = Reservation(self._hold)
        try:
            yield reservation
        finally:
            # The difference has no entry for a client without a slot, so the counter stays small.
            self._used -= Counter({client: 1})
            UPLOADS_IN_FLIGHT.set(self._used.total())
            self._hold(-reservation.size)

    def _client(self, address: str | None) -> str | None:
        """The client of an address; None if it is trusted."""
        found = _parsed(address)
        trusted = found is not None and any(found in network for network in self._trusted)
        return None if trusted else _name(found)

    def _check_slots(self, client: str | None) -> None:
        free = self.free
        if free <= 0:
            raise _saturated("slots", f"{self._slots} uploads are in progress")
        used = self._used[client]
        if client is not None and used >= free:
            raise _saturated(
                "address",
                f"your address uses {used} of {self._slots} slots for uploads, and the {free} free ones are kept "
                "for other addresses: have fewer uploads at the same time",
            )

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


def client_address(request: Request) -> str | None:
    """Address of the client, which a trusted proxy may have named (`gateway.http.server`); None if it has none."""
    return request.client.host if request.client else None


def _parsed(address: str | None) -> IPv4Address | IPv6Address | None:
    try:
        found = ip_address(address or "")
    except ValueError:
        return None
    return (found.ipv4_mapped or found) if isinstance(found, IPv6Address) else found


def _name(address: IPv4Address | IPv6Address | None) -> str:
    """Name of the client with this address."""
    if address is None:
        return UNKNOWN
    if isinstance(address, IPv6Address):
        return str(IPv6Network((int(address), IPV6_CLIENT_BITS), strict=False))
    return str(address)


def _saturated(what: str, detail: str) -> Problem:
    REFUSED.labels(what).inc()
    return Problem("saturated", detail, headers=RETRY_AFTER)
