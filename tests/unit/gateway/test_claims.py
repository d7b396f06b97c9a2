"""Idempotency: claims with leases, and requests that are repeated."""

from datetime import UTC, datetime, timedelta
from uuid import UUID

import pytest

from gateway.http.problems import Problem
from gateway.services.claims import Claim, Claims, Reply
from shared.contract.events import Uploaded
from shared.contract.keys import Ids
from shared.errors import UnknownOutcome
from tests.support.clock import Clock
from tests.support.images import encode, photo
from tests.support.memory.gateway import MemoryClaimTable, MemoryGateway

PNG = encode(photo(40, 30), "PNG")
JPEG = encode(photo(64, 48), "JPEG")
LEASE = timedelta(seconds=60)
REPLY = Reply(202, {"image_id": "x"}, {"Location": "/x"})


@pytest.fixture
def clock() -> Clock[datetime]:
    return Clock(datetime(2026, 1, 1, tzinfo=UTC))


@pytest.fixture
def claims(clock: Clock[datetime]) -> Claims:
    return Claims(MemoryClaimTable(), LEASE, clock)


async def claimed(claims: Claims, ids: list[Ids], fingerprint: str = "f") -> Claim:
    claim = await claims.claim("scope", fingerprint, ids)
    assert isinstance(claim, Claim)
    return claim


async def problem(claims: Claims, fingerprint: str = "f") -> Problem:
    with pytest.raises(Problem) as caught:
        await claims.claim("scope", fingerprint, [Ids.mint()])
    return caught.value


async def test_a_claim_that_runs_is_a_conflict_with_a_time_to_come_back(claims: Claims) -> None:
    await claimed(claims, [Ids.mint()])

    found = await problem(claims)

    assert (found.status, found.code) == (409, "in_flight")
    assert int(found.headers["Retry-After"]) >= 1


async def test_another_fingerprint_is_refused_in_each_state(claims: Claims) -> None:
    claim = await claimed(claims, [Ids.mint()])
    assert (await problem(claims, "other")).code == "key_reused"
    await claims.complete(claim, REPLY)
    assert (await problem(claims, "other")).code == "key_reused"


async def test_a_completed_claim_gives_its_reply(claims: Claims) -> None:
    await claims.complete(await claimed(claims, [Ids.mint()]), REPLY)

    assert await claims.claim("scope", "f", [Ids.mint()]) == REPLY


async def test_an_ended_lease_is_taken_over_with_the_first_ids(claims: Claims, clock: Clock[datetime]) -> None:
    ids = [Ids.mint(), Ids.mint()]
    await claimed(claims, ids)
    clock.now += LEASE

    taken = await claimed(claims, [Ids.mint(), Ids.mint()])

    assert list(taken.row.ids) == ids
    assert (await problem(claims)).code == "in_flight"


async def test_a_lease_of_a_clock_that_was_ahead_blocks_no_key(claims: Claims, clock: Clock[datetime]) -> None:
    ids = [Ids.mint()]
    clock.now += timedelta(days=3 * 365)
    await claimed(claims, ids)
    clock.now -= timedelta(days=3 * 365)

    assert list((await claimed(claims, [Ids.mint()])).row.ids) == ids
    assert (await problem(claims)).code == "in_flight"


async def test_a_released_claim_is_taken_over_at_once(claims: Claims) -> None:
    ids = [Ids.mint()]
    await claims.release(await claimed(claims, ids))

    assert list((await claimed(claims, [Ids.mint()])).row.ids) == ids


async def test_a_request_that_lost_its_claim_cannot_complete_it(claims: Claims, clock: Clock[datetime]) -> None:
    late = await claimed(claims, [Ids.mint()])
    clock.now += LEASE
    await claimed(claims, [Ids.mint()])

    await claims.complete(late, REPLY)

    assert (await problem(claims)).code == "in_flight"


async def test_a_forgotten_claim_leaves_the_key_free(claims: Claims) -> None:
    await claims.forget(await claimed(claims, [Ids.mint()]))

    await claimed(claims, [Ids.mint()], "other")


def test_a_reply_survives_its_encoding() -> None:
    assert Reply.decode(202, REPLY.encode()) == REPLY


def uploaded(gateway: MemoryGateway) -> list[tuple[UUID, UUID]]:
    return [(item.image_id, item.revision) for item in gateway.log.commands if isinstance(item, Uploaded)]


@pytest.mark.parametrize("path", ["/upload", "/images", "/images?user_id=1"])
async def test_a_repeated_request_takes_effect_once(path: str) -> None:
    gateway = MemoryGateway()
    headers = {"Idempotency-Key": "k"}
    async with gateway.client() as client:
        first = await client.post(path, files={"image": ("a.png", PNG)}, headers=headers)
        second = await client.post(path, files={"image": ("a.png", PNG)}, headers=headers)

    assert (second.status_code, second.json()) == (first.status_code, first.json())
    assert second.headers.get("location") == first.headers.get("location")
    assert len(gateway.log.commands) == 1


async def test_an_unknown_outcome_repeated_with_the_key_never_makes_a_second_image() -> None:
    gateway = MemoryGateway()
    gateway.log.lost = [UnknownOutcome("kafka", "no ack")]
    headers = {"Idempotency-Key": "k"}
    async with gateway.client() as client:
        first = await client.post("/images", files={"image": ("a.png", PNG)}, headers=headers)
        second = await client.post("/images", files={"image": ("a.png", PNG)}, headers=headers)

    assert (first.status_code, first.json()["code"]) == (503, "unknown_outcome")
    assert second.status_code == 202
    assert len(uploaded(gateway)) == 2
    assert len(set(uploaded(gateway))) == 1
    assert len(gateway.store.objects) == 1


@pytest.mark.parametrize(
    ("path", "data", "status"),
    [
        ("/images", JPEG, 422),
        ("/images?user_id=1", PNG, 202),
        ("/upload", PNG, 201),
    ],
)
async def test_a_key_is_for_one_method_path_owner_and_content(path: str, data: bytes, status: int) -> None:
    gateway = MemoryGateway()
    headers = {"Idempotency-Key": "k"}
    async with gateway.client() as client:
        await client.post("/images", files={"image": ("a.png", PNG)}, headers=headers)
        answer = await client.post(path, files={"image": ("a.png", data)}, headers=headers)

    assert answer.status_code == status


async def test_a_refused_request_does_not_use_its_key_up() -> None:
    gateway = MemoryGateway()
    headers = {"Idempotency-Key": "k"}
    missing = "0199c0de-0000-7000-8000-000000000001"
    async with gateway.client() as client:
        refused = await client.put(f"/images/{missing}", files={"image": ("a.png", PNG)}, headers=headers)

    assert refused.status_code == 404
    assert gateway.table.rows == {}


@pytest.mark.parametrize("key", ["", " ", "a" * 256, "é"])
async def test_an_invalid_key_is_refused(key: str) -> None:
    gateway = MemoryGateway()
    async with gateway.client() as client:
        answer = await client.post(
            "/upload", files={"image": ("a.png", PNG)}, headers={b"Idempotency-Key": key.encode()}
        )

    assert (answer.status_code, answer.json()["code"]) == (400, "bad_request")
