"""Admission: slots of each client address, which addresses are one client, and the freeing of slots."""

import asyncio
import sys
from contextlib import ExitStack, suppress
from ipaddress import ip_network

import pytest

from gateway.http.problems import Problem
from gateway.services.admission import Admission
from tests.support.api import PNG
from tests.support.waiting import wait_for_async
from tests.unit.gateway.test_connection import CHUNKED, LIMIT, Client, Running, running

SLOTS = 32
PART = b'--x\r\nContent-Disposition: form-data; name="image"; filename="a.png"\r\n\r\n'
END = b"\r\n--x--\r\n"


def admitted(admission: Admission, stack: ExitStack, address: str | None, most: int = SLOTS) -> int:
    """How many uploads from this address are admitted now."""
    for number in range(most):
        try:
            stack.enter_context(admission.admit(address))
        except Problem as problem:
            if problem.code != "saturated":
                raise
            return number
    return most


def test_an_address_gets_at_most_as_many_slots_as_it_leaves_free() -> None:
    admission = Admission(SLOTS, 0)
    with ExitStack() as stack:
        assert [admitted(admission, stack, f"192.0.2.{number}") for number in range(5)] == [16, 8, 4, 2, 1]


@pytest.mark.parametrize("clients", [1, 2, 3, 7])
def test_competing_addresses_share_the_slots_and_leave_a_part_free(clients: int) -> None:
    admission, counts = Admission(SLOTS, 0), [0] * clients
    with ExitStack() as stack:
        for _ in range(SLOTS):
            for number in range(clients):
                counts[number] += admitted(admission, stack, f"192.0.2.{number}", 1)
        share = SLOTS / (clients + 1)
        assert all(share - 1 < count < share + 1 for count in counts)
        assert admitted(admission, stack, "198.51.100.1") >= 1


def test_the_only_slot_goes_to_any_address() -> None:
    admission = Admission(1, 0)
    for _ in range(2):
        with ExitStack() as stack:
            assert admitted(admission, stack, "192.0.2.1") == 1
            assert admitted(admission, stack, "192.0.2.2") == 0


@pytest.mark.parametrize(
    ("first", "second", "one_client"),
    [
        ("192.0.2.1", "192.0.2.2", False),
        ("2001:db8::1", "2001:db8::ffff:ffff:ffff:ffff", True),
        ("2001:db8::1", "2001:db8:0:1::1", False),
        ("192.0.2.1", "::ffff:192.0.2.1", True),
        ("::ffff:192.0.2.1", "::ffff:192.0.2.2", False),
        (None, "a unix socket", True),
    ],
)
def test_addresses_of_one_client(first: str | None, second: str | None, one_client: bool) -> None:
    admission = Admission(2, 0)
    with ExitStack() as stack:
        assert admitted(admission, stack, first) == 1
        assert (admitted(admission, stack, second) == 0) == one_client


@pytest.mark.parametrize("address", ["10.0.0.1", "::ffff:10.0.0.1", "2001:db8::1"])
def test_a_trusted_address_may_use_all_slots(address: str) -> None:
    admission = Admission(SLOTS, 0, [ip_network("10.0.0.0/8"), ip_network("2001:db8::1")])
    with ExitStack() as stack:
        assert admitted(admission, stack, "192.0.2.1") == SLOTS // 2
        assert admitted(admission, stack, address) == SLOTS // 2


def test_the_problem_says_what_to_do() -> None:
    admission = Admission(2, 0)
    with (
        admission.admit("192.0.2.1"),
        pytest.raises(Problem, match=r"your address uses 1 of 2 slots .* fewer uploads"),
        admission.admit("192.0.2.1"),
    ):
        pass


async def slow_sender(found: Running, address: str, forwarded: str | None = None) -> Client:
    client = await found.connect(address)
    header = f"X-Forwarded-For: {forwarded}\r\n".encode() if forwarded else b""
    await client.send(CHUNKED[:-2] + header + b"\r\n" + chunk(PART))
    return client


async def fill(found: Running, forwarded: str | None = None) -> None:
    """Start so many slow senders at 127.0.0.1 that they would use all slots, and wait until half of them have 429."""
    slow = [await slow_sender(found, "127.0.0.1", forwarded) for _ in range(SLOTS)]
    answers = [asyncio.create_task(client.response()) for client in slow]
    await wait_for_async(
        lambda: sum(map(asyncio.Task.done, answers)) >= SLOTS // 2, LIMIT, "half are refused", pause=0.01
    )
    assert [answer.result().status for answer in answers if answer.done()] == [429] * (SLOTS // 2)
    for answer in answers:
        answer.cancel()


def chunk(data: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(data), data)


async def upload(found: Running, address: str, forwarded: str | None = None) -> int:
    client = await slow_sender(found, address, forwarded)
    with suppress(ConnectionError):
        await client.send(chunk(PNG + END) + b"0\r\n\r\n")
    return (await client.response()).status


@pytest.mark.skipif(sys.platform != "linux", reason="Only Linux has every address of 127.0.0.0/8 without a set-up.")
async def test_slow_senders_of_one_address_leave_slots_for_another() -> None:
    async with running(upload_idle_timeout=30) as found:
        await fill(found)

        assert await upload(found, "127.0.0.1") == 429
        assert await upload(found, "127.0.0.2") == 201


@pytest.mark.parametrize(("trusted", "second"), [("127.0.0.0/8", 201), ("192.0.2.0/24", 429), ("", 429)])
async def test_a_forwarded_address_counts_only_from_a_trusted_proxy(trusted: str, second: int) -> None:
    async with running(upload_idle_timeout=30, trusted_proxies=trusted or ()) as found:
        await fill(found, "forged, 203.0.113.1")

        assert await upload(found, "127.0.0.1", "203.0.113.1") == 429
        assert await upload(found, "127.0.0.1", "203.0.113.1, 203.0.113.2") == second
