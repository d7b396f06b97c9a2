"""Temporary keys and ingested objects over engines in memory."""

import asyncio
import json
import threading
from datetime import timedelta
from typing import Any

import httpx
import pytest
from botocore.exceptions import ClientError

from gateway.receiving.checking import OFF_LOOP_BYTES
from gateway.services.credentials import StsKeyIssuer, upload_policy
from shared.contract.keys import Owner, incoming_prefix
from tests.support.images import encode, photo
from tests.support.memory.gateway import MemoryGateway, MemoryKeyIssuer, memory_settings

PNG = encode(photo(40, 30), "PNG")
JPEG = encode(photo(64, 48), "JPEG")
USER = Owner(type="user", id="1")
KEY = f"{incoming_prefix(USER)}holiday/düne.png"


async def ingest(client: httpx.AsyncClient, **body: Any) -> httpx.Response:
    return await client.post("/images", json={"incoming": KEY, "user_id": 1, **body})


async def test_an_incoming_object_becomes_an_image() -> None:
    gateway = MemoryGateway()
    await gateway.store.put(KEY, PNG, "text/html")
    async with gateway.client() as client:
        answer = await ingest(client)

    found = answer.json()
    stored = gateway.store.objects[found["original"]["path"]]
    assert answer.status_code == 202
    assert (found["owner_type"], found["owner_id"], found["file_name"]) == ("user", "1", "düne.png")
    assert (stored.data, stored.content_type) == (PNG, "image/png")


@pytest.mark.parametrize(
    "name",
    [
        "Screenshot 2026-11-26 at 10.00.00\u202fAM.png",
        "\u3000\u00a0a.png",
        "soft\u00adhyphen.png",
        "\U0001f468\u200d\U0001f469\u200d\U0001f467.png",
    ],
)
async def test_names_with_any_character_but_control_characters_are_accepted(name: str) -> None:
    gateway = MemoryGateway()
    key = incoming_prefix(USER) + name
    await gateway.store.put(key, PNG, "image/png")
    async with gateway.client() as client:
        answer = await ingest(client, incoming=key)
        uploaded = await client.post("/images?user_id=1", files={"image": (name, PNG)})

    assert answer.status_code == 202
    assert answer.json()["file_name"] == uploaded.json()["file_name"]


async def test_two_idempotency_keys_are_refused() -> None:
    gateway = MemoryGateway()
    await gateway.store.put(KEY, PNG, "image/png")
    headers = [("Idempotency-Key", "a"), ("Idempotency-Key", "b")]
    async with gateway.client() as client:
        ingested = await client.post("/images", json={"incoming": KEY, "user_id": 1}, headers=headers)
        uploaded = await client.post("/upload?user_id=1", files={"image": ("a.png", PNG)}, headers=headers)

    for answer in (ingested, uploaded):
        assert (answer.status_code, answer.json()["code"]) == (400, "bad_request")
    assert gateway.log.commands == []


async def test_ingesting_twice_gives_the_first_answer_and_a_changed_object_a_new_one() -> None:
    gateway = MemoryGateway()
    await gateway.store.put(KEY, PNG, "image/png")
    async with gateway.client() as client:
        first = await ingest(client)
        second = await ingest(client)
        await gateway.store.put(KEY, JPEG, "image/jpeg")
        third = await ingest(client)

    assert second.json() == first.json()
    assert third.json()["image_id"] != first.json()["image_id"]
    assert len(gateway.log.commands) == 2


@pytest.mark.parametrize(
    ("data", "status", "code"),
    [(b"", 422, "empty"), (b"text", 415, "unsupported_format"), (PNG[:200], 422, "truncated")],
)
async def test_what_is_in_the_object_is_checked(data: bytes, status: int, code: str) -> None:
    gateway = MemoryGateway()
    await gateway.store.put(KEY, data, "image/png")
    async with gateway.client() as client:
        answer = await ingest(client)

    assert (answer.status_code, answer.json()["code"]) == (status, code)
    assert gateway.log.commands == []


async def test_an_object_above_the_limit_is_refused_unread() -> None:
    gateway = MemoryGateway(memory_settings(max_upload_bytes=len(PNG) - 1))
    await gateway.store.put(KEY, PNG, "image/png")
    async with gateway.client() as client:
        answer = await ingest(client)

    assert (answer.status_code, answer.json()["code"]) == (413, "file_too_large")


@pytest.mark.parametrize(
    ("body", "status", "code"),
    [
        ({"user_id": 2}, 400, "incoming_mismatch"),
        ({"incoming": incoming_prefix(USER)}, 400, "incoming_mismatch"),
        ({"incoming": "images/x/y/original.png"}, 400, "incoming_mismatch"),
        ({"incoming": f"incoming/../{KEY}"}, 400, "incoming_mismatch"),
        ({"incoming": f"{incoming_prefix(USER)}nothing"}, 404, "no_such_incoming"),
        ({"incoming": 7}, 400, "bad_request"),
        ({"incoming": None}, 400, "bad_request"),
        ({"incoming": KEY + "\n"}, 400, "bad_request"),
        ({"incoming": KEY + "\u0085"}, 400, "bad_request"),
        ({"incoming": KEY + "x" * 1024}, 400, "bad_request"),
        ({"incoming": f"{incoming_prefix(USER)}../x.png"}, 400, "bad_request"),
        ({"incoming": f"{incoming_prefix(USER)}a/./x.png"}, 400, "bad_request"),
        ({"incoming": f"{incoming_prefix(USER)}a//x.png"}, 400, "bad_request"),
        ({"incoming": f"{incoming_prefix(USER)}a/"}, 400, "bad_request"),
        ({"incoming": f"{incoming_prefix(USER)}..x./y..png"}, 404, "no_such_incoming"),
        ({"product_id": "1"}, 400, "invalid_owner"),
        ({"user_id": None}, 400, "invalid_owner"),
        ({"user_id": True}, 400, "invalid_owner"),
    ],
)
async def test_a_key_must_be_one_of_the_owners_own(body: dict[str, Any], status: int, code: str) -> None:
    gateway = MemoryGateway()
    await gateway.store.put(KEY, PNG, "image/png")
    async with gateway.client() as client:
        answer = await ingest(client, **body)

    assert (answer.status_code, answer.json()["code"]) == (status, code)
    assert gateway.log.commands == []


@pytest.mark.parametrize(
    ("content", "code"),
    [
        (b"", "bad_request"),
        (b"[1]", "bad_request"),
        (b"[" * 10_000, "bad_request"),
        (b'{"user_id":' * 1_000, "bad_request"),
        (b"{" * 20_000, "body_too_large"),
    ],
)
async def test_a_body_that_is_no_small_json_object_is_refused(content: bytes, code: str) -> None:
    gateway = MemoryGateway()
    async with gateway.client() as client:
        answer = await client.post("/images", content=content, headers={"Content-Type": "application/json"})

    assert answer.json()["code"] == code


@pytest.mark.parametrize("owner_id", ["*", "?", "../x", "a/*", "${aws:username}"])
def test_nothing_in_an_owner_widens_the_policy(owner_id: str) -> None:
    owner = Owner(type="user", id=owner_id)
    [statement] = json.loads(upload_policy("bucket", owner))["Statement"]

    assert statement["Action"] == ["s3:PutObject"]
    assert statement["Resource"] == [f"arn:aws:s3:::bucket/incoming/{owner.digest}/*"]


async def test_keys_say_where_and_for_how_long() -> None:
    gateway = MemoryGateway(memory_settings(s3_public_endpoint_url="https://s3.example.org"), keys=MemoryKeyIssuer())
    async with gateway.client() as client:
        answer = await client.post("/credentials?user_id=1&duration=900")

    found = answer.json()
    assert answer.status_code == 201
    assert answer.headers["cache-control"] == "no-store"
    assert (found["endpoint_url"], found["bucket"]) == ("https://s3.example.org", "imagepipe")
    assert found["prefix"] == incoming_prefix(USER)
    assert set(found["credentials"]) == {"access_key_id", "secret_access_key", "session_token", "expiration"}
    assert gateway.keys is not None
    assert gateway.keys.issued == [(USER, timedelta(seconds=900))]


@pytest.mark.parametrize(
    ("query", "status", "code"),
    [
        ("", 400, "invalid_owner"),
        ("owner_type=image&owner_id=x", 400, "reserved_owner"),
        ("user_id=1&duration=899", 400, "duration_refused"),
        ("user_id=1&duration=86401", 400, "duration_refused"),
        ("user_id=1&duration=soon", 400, "bad_request"),
        ("user_id=1&duration=-900", 400, "bad_request"),
    ],
)
async def test_keys_need_an_owner_and_a_sane_duration(query: str, status: int, code: str) -> None:
    gateway = MemoryGateway(keys=MemoryKeyIssuer())
    async with gateway.client() as client:
        answer = await client.post(f"/credentials?{query}")

    assert (answer.status_code, answer.json()["code"]) == (status, code)


async def test_disabled_keys_are_a_problem() -> None:
    async with MemoryGateway().client() as client:
        answer = await client.post("/credentials?user_id=1")

    assert (answer.status_code, answer.json()["code"]) == (404, "credentials_disabled")


class HangingSts:
    """An STS client whose calls end when they are let go."""

    def __init__(self) -> None:
        self.let_go = threading.Event()

    def assume_role(self, **_: Any) -> None:
        self.let_go.wait()
        raise ConnectionError

    def close(self) -> None:
        pass


class CodelessSts(HangingSts):
    """Refuses as SeaweedFS's STS does where the keys are wrong: without an error in the document."""

    def assume_role(self, **_: Any) -> None:
        raise ClientError({"ResponseMetadata": {"HTTPStatusCode": 403}}, "AssumeRole")  # type: ignore[typeddict-item]


async def test_an_sts_that_refuses_without_a_code_is_an_outage() -> None:
    sts: Any = CodelessSts()
    gateway = MemoryGateway(memory_settings())
    issuer = gateway.services.keys = StsKeyIssuer(sts, gateway.settings)
    async with gateway.client() as client:
        answer = await client.post("/credentials?user_id=1")
    await issuer.close()

    assert (answer.status_code, answer.json()["code"]) == (503, "unavailable")


async def test_a_hanging_sts_delays_no_upload() -> None:
    large = encode(photo(300, 200), "PNG", compress_level=0)
    sts: Any = HangingSts()
    gateway = MemoryGateway(memory_settings(s3_timeout=1))
    issuer = gateway.services.keys = StsKeyIssuer(sts, gateway.settings)
    async with gateway.client() as client:
        try:
            # More than the threads of the event loop on any machine.
            asked = [asyncio.create_task(client.post("/credentials?user_id=1")) for _ in range(40)]
            await asyncio.sleep(0.1)
            async with asyncio.timeout(10):
                upload = await client.post("/images", files={"image": ("a.png", large)})
                answers = await asyncio.gather(*asked)
        finally:
            sts.let_go.set()
    await issuer.close()

    assert len(large) > OFF_LOOP_BYTES
    assert upload.status_code == 202
    assert {(answer.status_code, answer.json()["code"]) for answer in answers} == {(503, "unavailable")}
