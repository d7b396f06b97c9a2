"""Sets of one owner exclude each other: leases, and requests that meet, stall or are repeated."""

import asyncio
from collections.abc import Awaitable, Callable
from datetime import timedelta
from typing import Any
from uuid import UUID

import httpx
import pytest

from gateway.http.problems import Problem
from gateway.services.set_leases import SetLeases
from shared.contract.events import Command, OwnerCleared, Replaced, Uploaded
from shared.contract.keys import Owner, command_version
from shared.contract.logged_command import versioned
from shared.errors import Unavailable, UnknownOutcome
from shared.ports import Appended
from shared.read_model.tables import command_writes
from tests.support.clock import Clock
from tests.support.images import encode, photo
from tests.support.memory.gateway import MemoryGateway, MemoryLeaseTable, memory_settings
from tests.support.waiting import wait_for_async

PNG = encode(photo(40, 30), "PNG")
JPEG = encode(photo(64, 48), "JPEG")
USER = Owner(type="user", id="1")
OTHER = Owner(type="user", id="2")
DURATION = timedelta(seconds=30)
KEY = {"Idempotency-Key": "k"}


@pytest.fixture
def clock() -> Clock[float]:
    return Clock(100.0)


@pytest.fixture
def table(clock: Clock[float]) -> MemoryLeaseTable:
    return MemoryLeaseTable(clock)


async def code_of(attempt: Callable[[], Awaitable[None]]) -> str:
    with pytest.raises(Problem) as caught:
        await attempt()
    return caught.value.code


async def held(leases: SetLeases, owner: Owner = USER) -> None:
    async with leases.hold(owner):
        pass


async def test_a_lease_excludes_others_of_its_owner_until_its_end(table: MemoryLeaseTable) -> None:
    leases = SetLeases(table, DURATION)
    async with leases.hold(USER):
        with pytest.raises(Problem) as caught:
            await held(leases)
        await held(leases, OTHER)
    assert (caught.value.status, caught.value.code) == (409, "in_flight")
    assert int(caught.value.headers["Retry-After"]) >= 1
    await held(leases)


async def test_a_lease_ends_after_its_duration_and_cannot_be_confirmed_then(
    table: MemoryLeaseTable, clock: Clock[float]
) -> None:
    leases = SetLeases(table, DURATION)
    async with leases.hold(USER) as late:
        clock.now += 29
        await late.confirm()
        clock.now += 29
        assert await code_of(lambda: held(leases)) == "in_flight"
        clock.now += 2
        async with leases.hold(USER) as second:
            assert await code_of(late.confirm) == "unavailable"
            await late.end()
            await second.confirm()


async def test_a_running_request_renews_its_lease(table: MemoryLeaseTable, clock: Clock[float]) -> None:
    leases = SetLeases(table, timedelta(milliseconds=60))
    async with leases.hold(USER) as lease:
        renewed = table.holders.copy()
        clock.now += 0.05
        await wait_for_async(lambda: table.holders != renewed, 10, "the renewal", pause=0.01)
        clock.now += 0.05
        await lease.confirm()


async def test_uploads_without_a_fence_are_remembered_until_a_fence(table: MemoryLeaseTable) -> None:
    leases = SetLeases(table, DURATION)
    async with leases.hold(USER) as lease:
        assert not lease.unfenced
        await lease.begin_uploads()
    async with leases.hold(USER) as lease:
        assert lease.unfenced
    async with leases.hold(USER) as lease:
        assert lease.unfenced
        lease.fenced()
    async with leases.hold(USER) as lease:
        assert not lease.unfenced


def form(*files: bytes) -> list[tuple[str, tuple[str, bytes]]]:
    return [("image", (f"{number}.png", data)) for number, data in enumerate(files)]


async def put(client: httpx.AsyncClient, *files: bytes, **headers: str) -> httpx.Response:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return await client.put("/images?user_id=1", files=form(*files), headers=named)


async def owned(gateway: MemoryGateway) -> set[str]:
    return {str(row.image_id) for row in await gateway.index.of_owner(USER, limit=100)}


def ids(answer: httpx.Response) -> set[str]:
    assert answer.status_code == 202, answer.text
    return {image["image_id"] for image in answer.json()["images"]}


def during(gateway: MemoryGateway, kind: type[Command], action: Callable[[], Awaitable[Any]]) -> None:
    """Take an action once, immediately before the next command of this kind is appended."""
    append = gateway.log.append

    async def interrupted(command: Command, *, traceparent: str | None = None) -> Appended:
        if isinstance(command, kind):
            gateway.log.append = append  # type: ignore[method-assign]
            await action()
        return await append(command, traceparent=traceparent)

    gateway.log.append = interrupted  # type: ignore[method-assign]


@pytest.mark.parametrize("first", [(PNG, JPEG), (PNG,)])
@pytest.mark.parametrize("second", [(JPEG, PNG), (JPEG,)])
@pytest.mark.parametrize("images", [0, 1, 3])
async def test_a_second_set_is_refused_while_the_first_runs(
    first: tuple[bytes, ...], second: tuple[bytes, ...], images: int
) -> None:
    gateway = MemoryGateway()
    refused: list[httpx.Response] = []
    async with gateway.client() as client:
        for _ in range(images):
            await client.post("/images?user_id=1", files=form(PNG))

        async def meet() -> None:
            refused.append(await put(client, *second))

        kind: type[Command] = Replaced if len(first) == images == 1 else Uploaded
        during(gateway, kind, meet)
        accepted = ids(await put(client, *first))
        assert await owned(gateway) == accepted
        # Its lease is free again at once.
        replaced = ids(await put(client, *second))
        assert await owned(gateway) == replaced
    assert [(answer.status_code, answer.json()["code"]) for answer in refused] == [(409, "in_flight")]
    assert "Retry-After" in refused[0].headers


async def test_a_post_beside_a_set_stays() -> None:
    gateway = MemoryGateway()
    posted: list[str] = []
    async with gateway.client() as client:

        async def post() -> None:
            answer = await client.post("/images?user_id=1", files=form(PNG))
            posted.append(answer.json()["image_id"])

        during(gateway, OwnerCleared, post)
        accepted = ids(await put(client, PNG, JPEG))
    assert await owned(gateway) == accepted | set(posted)


async def test_a_set_that_lost_its_lease_appends_no_fence() -> None:
    """The gateway stalls between its uploads; meantime another request replaces the set."""
    clock = Clock(100.0)
    gateway = MemoryGateway(leases=MemoryLeaseTable(clock))
    others: list[httpx.Response] = []
    async with gateway.client() as client:

        async def stall() -> None:
            clock.now += gateway.settings.set_lease.total_seconds()
            others.append(await put(client, JPEG, PNG))

        during(gateway, Uploaded, stall)
        late = await put(client, PNG, JPEG)
        fences = [command for command in gateway.log.commands if isinstance(command, OwnerCleared)]
        repeated = await put(client, PNG, JPEG)
    assert (late.status_code, late.json()["code"]) == (503, "unavailable")
    assert "Retry-After" in late.headers
    assert ids(others[0])
    assert len(fences) == 1
    assert await owned(gateway) == ids(repeated)


async def test_after_a_set_that_was_left_half_done_nothing_is_replaced_in_place() -> None:
    """Its second upload is in the log and its row is not written: the index shows one image of the owner."""
    gateway = MemoryGateway()
    async with gateway.client() as client:
        gateway.log.lost = [UnknownOutcome("kafka", "no ack")]
        half = await put(client, PNG, JPEG)
        gateway.log.lost = []
        first = gateway.log.commands[0]
        await gateway.index.apply(command_writes(versioned(first, command_version(1, 0)), 4))
        assert len(await owned(gateway)) == 1
        accepted = ids(await put(client, PNG))
    assert half.status_code == 503
    assert not any(isinstance(command, Replaced) for command in gateway.log.commands)
    assert await owned(gateway) == accepted


async def test_a_refused_set_can_be_repeated_with_its_key_and_gets_its_own_result() -> None:
    gateway = MemoryGateway()
    refused: list[httpx.Response] = []
    async with gateway.client() as client:

        async def meet() -> None:
            refused.append(await put(client, JPEG, PNG, **KEY))

        during(gateway, Uploaded, meet)
        first = await put(client, PNG, JPEG)
        second = await put(client, JPEG, PNG, **KEY)
        again = await put(client, JPEG, PNG, **KEY)
    assert refused[0].status_code == 409
    assert ids(first).isdisjoint(ids(second))
    assert again.json() == second.json()
    assert await owned(gateway) == ids(second)


async def test_a_refusal_keeps_the_ids_of_an_earlier_try() -> None:
    gateway = MemoryGateway()
    async with gateway.client() as client:
        gateway.log.lost = [UnknownOutcome("kafka", "no ack")]
        first = await put(client, PNG, JPEG, **KEY)
        tried = {command.image_id for command in gateway.log.commands if isinstance(command, Uploaded)}
        async with gateway.services.set_leases.hold(USER):
            refused = await put(client, PNG, JPEG, **KEY)
        done = await put(client, PNG, JPEG, **KEY)
    assert [first.status_code, refused.status_code] == [503, 409]
    assert tried < {UUID(image_id) for image_id in ids(done)}


async def test_a_lease_is_free_after_a_set_that_was_refused_or_failed() -> None:
    gateway = MemoryGateway()
    async with gateway.client() as client:
        await put(client, PNG, b"text")
        gateway.store.unavailable = True
        failed = await put(client, PNG, JPEG)
        commands = list(gateway.log.commands)
        gateway.store.unavailable = False
        accepted = ids(await put(client, PNG, JPEG))
    assert (failed.status_code, commands) == (503, [])
    assert await owned(gateway) == accepted
    assert gateway.leases.holders == {}


@pytest.mark.parametrize("method", ["take", "renew"])
async def test_without_leases_a_set_is_503(method: str, monkeypatch: pytest.MonkeyPatch) -> None:
    async def unavailable(*_: Any, **__: Any) -> None:
        raise Unavailable("cassandra", "unavailable")

    gateway = MemoryGateway(settings=memory_settings())
    monkeypatch.setattr(gateway.leases, method, unavailable)
    async with gateway.client() as client:
        answer = await put(client, PNG, JPEG)
    assert (answer.status_code, answer.json()["code"]) == (503, "unavailable")
    assert gateway.log.commands == []


async def test_a_lease_that_cannot_be_ended_does_not_fail_the_set(monkeypatch: pytest.MonkeyPatch) -> None:
    async def unavailable(*_: Any, **__: Any) -> None:
        raise Unavailable("cassandra", "unavailable")

    clock = Clock(100.0)
    gateway = MemoryGateway(leases=MemoryLeaseTable(clock))
    monkeypatch.setattr(gateway.leases, "end", unavailable)
    async with gateway.client() as client:
        first, second = await put(client, PNG), await put(client, PNG)
        clock.now += gateway.settings.set_lease.total_seconds()
        third = await put(client, PNG)
    assert [first.status_code, second.status_code, third.status_code] == [202, 409, 202]


async def test_many_sets_at_once_leave_exactly_one_of_them() -> None:
    gateway = MemoryGateway()
    async with gateway.client() as client:
        answers = await asyncio.gather(*(put(client, PNG, JPEG) for _ in range(6)))
    accepted = [ids(answer) for answer in answers if answer.status_code == 202]
    assert accepted
    assert {answer.status_code for answer in answers} <= {202, 409}
    assert await owned(gateway) in accepted
