"""Idempotency-Key on the real table: racing requests, conflicts, and a gateway that dies in the middle."""

import secrets
import signal
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import uuid4

import httpx
import pytest

from gateway.http.problems import Problem
from gateway.services.claims import CassandraClaimTable, Claim, ClaimRow, Claims, Reply
from shared.cassandra.index import CassandraIndex
from shared.contract.keys import Ids
from shared.s3.store import s3_client
from shared.settings import Settings
from tests.support.api import JPEG, PNG, Api, form
from tests.support.engines.stack import Stack
from tests.support.processes.gateway import own_gateway
from tests.support.waiting import wait_for


def key() -> dict[str, str]:
    return {"Idempotency-Key": str(uuid4())}


def test_a_repeated_upload_is_one_image(api: Api, owner: dict[str, str]) -> None:
    headers = key()
    answers = [api.post("/images", params=owner, files=form(("a.jpg", JPEG)), headers=headers) for _ in range(3)]

    assert [answer.status_code for answer in answers] == [202] * 3
    assert [answer.json() for answer in answers] == [answers[0].json()] * 3
    assert api.ids_of(**owner) == [answers[0].json()["image_id"]]


def test_of_racing_requests_one_takes_effect(api: Api, stack: Stack, owner: dict[str, str]) -> None:
    headers = key()

    def upload(_: int) -> tuple[int, str | None]:
        with Api(stack.base_url) as client:
            answer = client.post("/images", params=owner, files=form(("a.jpg", JPEG)), headers=headers)
            if answer.status_code == 409:
                assert answer.json()["code"] == "in_flight"
                assert int(answer.headers["retry-after"]) >= 1
            return answer.status_code, answer.json().get("image_id")

    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(upload, range(8)))

    accepted = {image_id for status, image_id in answers if status == 202}
    assert {status for status, _ in answers} <= {202, 409}
    assert api.ids_of(**owner) == list(accepted)


def test_the_same_key_with_other_content_is_refused(api: Api, owner: dict[str, str]) -> None:
    headers = key()
    api.post("/images", params=owner, files=form(("a.jpg", JPEG)), headers=headers)

    answer = api.post("/images", params=owner, files=form(("a.jpg", PNG)), headers=headers)

    assert (answer.status_code, answer.json()["code"]) == (422, "key_reused")
    assert len(api.ids_of(**owner)) == 1


def test_replacements_and_sets_are_safe_to_repeat_too(api: Api, owner: dict[str, str]) -> None:
    image_id, headers = api.upload(JPEG, **owner)["image_id"], key()
    answers = [api.put(f"/images/{image_id}", files=form(("b.png", PNG)), headers=headers) for _ in range(2)]
    assert answers[0].json()["pending"] or answers[0].json()["original"]
    assert answers[1].json() == answers[0].json()

    headers = key()
    files = form(("c.png", PNG), ("d.jpg", JPEG))
    answers = [api.put("/images", params=owner, files=files, headers=headers) for _ in range(2)]
    assert answers[1].json() == answers[0].json()
    assert api.ids_of(**owner) == [image["image_id"] for image in answers[0].json()["images"]][::-1]


def stored_images(stack: Stack) -> set[str]:
    """Ids of all images that have an object in the bucket."""
    pages = s3_client(stack.settings).get_paginator("list_objects_v2")
    found = pages.paginate(Bucket=stack.settings.s3_bucket, Prefix="images/", Delimiter="/")
    return {prefix["Prefix"].split("/")[1] for page in found for prefix in page.get("CommonPrefixes", [])}


def test_upload_of_a_killed_gateway_is_finished_under_the_same_ids(
    api: Api, stack: Stack, owner: dict[str, str], tmp_path: Path
) -> None:
    headers, lease, before = key(), timedelta(seconds=8), stored_images(stack)
    request: dict[str, Any] = {"params": owner, "files": form(("a.jpg", JPEG)), "headers": headers}
    # A topic that does not exist never acks: the gateway claims, stores the original, and waits until it is killed.
    changes = {"topic_prefix": f"none{secrets.token_hex(4)}.", "kafka_send_timeout": timedelta(seconds=60)}
    with (
        own_gateway(stack.settings, tmp_path / "log", idempotency_lease=lease, **changes) as first,
        Api(first.base_url) as client,
        ThreadPoolExecutor(1) as pool,
    ):
        first.wait_connected("cassandra", "s3")
        lost = pool.submit(client.post, "/images", **request)
        wait_for(lambda: stored_images(stack) - before, 60, "the original is stored")
        first.signal(signal.SIGKILL)
        assert isinstance(lost.exception(20), httpx.TransportError)

    early = api.post("/images", **request)
    assert (early.status_code, early.json()["code"]) == (409, "in_flight")

    def accepted() -> httpx.Response | None:
        answer = api.post("/images", **request)
        return None if answer.status_code == 409 else answer

    late = wait_for(accepted, lease.total_seconds() + 30, "the lease of the killed gateway has ended", pause=0.5)
    assert late.status_code == 202
    assert stored_images(stack) - before == {late.json()["image_id"]}
    assert api.settled(late.json()["image_id"])["status"] == "ready"
    assert api.ids_of(**owner) == [late.json()["image_id"]]


async def test_claims_on_cassandra_follow_the_rules(space: Settings) -> None:
    index = await CassandraIndex.open(space)
    try:
        scope, ids = secrets.token_hex(16), [Ids.mint(), Ids.mint()]
        short = Claims(CassandraClaimTable(index), timedelta(0))
        claims = Claims(CassandraClaimTable(index), timedelta(seconds=60))
        first = await short.claim(scope, "f", ids)
        assert isinstance(first, Claim)

        taken = await claims.claim(scope, "f", [Ids.mint(), Ids.mint()])
        assert isinstance(taken, Claim)
        assert list(taken.row.ids) == ids
        await short.complete(first, Reply(202, {"late": True}, {}))
        with pytest.raises(Problem) as refused:
            await claims.claim(scope, "f", ids)
        assert refused.value.code == "in_flight"
        await claims.release(taken)
        again = await claims.claim(scope, "f", ids)
        assert isinstance(again, Claim)
        reply = Reply(202, {"image_id": "x", "name": "été"}, {"Location": "/x"})
        await claims.complete(again, reply)
        assert await claims.claim(scope, "f", ids) == reply
        with pytest.raises(Problem, match="other fields"):
            await claims.claim(scope, "g", ids)
    finally:
        await index.close()


async def test_claim_statement_sent_twice_has_the_same_result(space: Settings) -> None:
    index = await CassandraIndex.open(space)
    try:
        table, scope = CassandraClaimTable(index), secrets.token_hex(16)
        mine = ClaimRow("f", (Ids.mint(),), datetime.now(UTC), uuid4())
        assert [await table.insert(scope, mine) for _ in range(2)] == [None, None]
        other = ClaimRow("f", (Ids.mint(),), datetime.now(UTC), uuid4())
        found = await table.insert(scope, other)
        assert found is not None
        assert (found.holder, found.ids) == (mine.holder, mine.ids)
        assert [await table.update(scope, other, mine.holder) for _ in range(2)] == [True, True]
        assert not await table.update(scope, mine, mine.holder), "another holder has taken the claim over"
        for _ in range(2):
            await table.delete(scope, other.holder)
        assert not await table.update(scope, mine, mine.holder), "there is none"
    finally:
        await index.close()


async def test_a_forgotten_claim_is_free_and_everything_else_expires(space: Settings) -> None:
    index = await CassandraIndex.open(space)
    try:
        scope = secrets.token_hex(16)
        claims = Claims(CassandraClaimTable(index), timedelta(seconds=60))
        first = await claims.claim(scope, "f", [Ids.mint()])
        assert isinstance(first, Claim)
        await claims.forget(first)
        second = await claims.claim(scope, "g", [Ids.mint()])
        assert isinstance(second, Claim)
        await claims.complete(second, Reply(201, {}, {}))

        columns = ("fingerprint", "image_ids", "lease_until", "holder", "status", "response")
        wanted = ", ".join(f"TTL({name}) AS {name}" for name in columns if name != "image_ids")
        [row] = await index.execute(f"SELECT {wanted} FROM idempotency_keys WHERE scope = ?", [scope])
        assert all(86_000 < seconds <= 86_400 for seconds in row)
    finally:
        await index.close()
