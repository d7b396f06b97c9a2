"""Uploads over engines in memory: contract, order of steps, failures of each engine."""

import asyncio
import gc
from contextlib import ExitStack
from typing import Any
from uuid import UUID

import httpx
import pytest

from gateway.container import Services
from gateway.receiving.checking import CheckedFile
from gateway.receiving.multipart import FormFile
from gateway.writing.uploads import CONCURRENT_PUTS
from shared.contract.events import Failed, Failure, Uploaded
from shared.contract.keys import Owner, command_version, new_id
from shared.contract.logged_command import LoggedRenderCommand
from shared.errors import Unavailable, UnknownOutcome
from shared.read_model.tables import event_writes
from tests.support.images import encode, photo
from tests.support.memory.gateway import BASE_URL, MemoryGateway, memory_settings

PNG = encode(photo(40, 30), "PNG")
JPEG = encode(photo(64, 48), "JPEG")


def files(*named: tuple[str, bytes]) -> list[tuple[str, tuple[str, bytes]]]:
    return [("image", file) for file in named]


def command(gateway: MemoryGateway, position: int = -1) -> Uploaded:
    found = gateway.log.commands[position]
    assert isinstance(found, Uploaded)
    return found


async def test_upload_answers_as_the_contract_says() -> None:
    gateway = MemoryGateway()
    async with gateway.client() as client:
        answer = await client.post("/upload", files=files(("a.png", PNG)))

    assert answer.status_code == 201
    assert answer.json() == {"image_id": str(command(gateway).image_id), "status": "success"}
    assert command(gateway).owner == Owner.of_image(command(gateway).image_id)


async def test_the_original_is_stored_before_the_command_is_in_the_log() -> None:
    gateway = MemoryGateway()
    gateway.log.errors = [Unavailable("kafka", "down")]
    async with gateway.client() as client:
        answer = await client.post("/images", files=files(("a.png", PNG)))

    assert answer.status_code == 503
    assert answer.headers["retry-after"]
    assert answer.json()["code"] == "unavailable"
    assert len(gateway.store.objects) == 1, "the original stays, for gc to find"
    assert gateway.log.commands == []


async def test_nothing_is_appended_while_the_bucket_is_unavailable() -> None:
    gateway = MemoryGateway()
    gateway.store.unavailable = True
    async with gateway.client() as client:
        answer = await client.post("/images", files=files(("a.png", PNG)))

    assert (answer.status_code, answer.json()["code"]) == (503, "unavailable")
    assert gateway.log.commands == []


async def test_the_answer_is_the_status_document_of_the_row_that_was_written() -> None:
    gateway = MemoryGateway()
    async with gateway.client() as client:
        answer = await client.post("/images", params={"user_id": "1"}, files=files(("été.jpg", JPEG)))

    found = answer.json()
    row = await gateway.index.image(UUID(found["image_id"]))
    assert answer.status_code == 202
    assert answer.headers["location"] == f"{BASE_URL}/images/{found['image_id']}/metadata"
    assert row is not None
    assert row.image_version == command_version(1, 0)
    assert (found["status"], found["owner_type"], found["owner_id"]) == ("processing", "user", "1")
    assert (found["original"]["width"], found["original"]["height"], found["size"]) == (64, 48, len(JPEG))
    assert gateway.store.objects[found["original"]["path"]].data == JPEG


@pytest.mark.parametrize("failing", ["index", "offset"])
async def test_the_answer_is_the_same_where_the_row_could_not_be_written(failing: str) -> None:
    gateway = MemoryGateway()
    gateway.index.unavailable = failing == "index"
    gateway.log.without_offset = failing == "offset"
    async with gateway.client() as client:
        answer = await client.post("/images", files=files(("a.png", PNG)))

    gateway.index.unavailable = False
    assert answer.status_code == 202
    assert answer.json()["status"] == "processing"
    assert await gateway.index.image(UUID(answer.json()["image_id"])) is None


async def test_own_writes_notify_the_caches() -> None:
    gateway = MemoryGateway()
    noted: list[tuple[UUID | None, Owner]] = []
    gateway.services.changes.listen(lambda image_id, owner: noted.append((image_id, owner)))
    async with gateway.client() as client:
        answer = await client.post("/images?product_id=7", files=files(("a.png", PNG)))

    assert noted == [(UUID(answer.json()["image_id"]), Owner(type="product", id="7"))]


async def test_a_batch_answers_for_each_file_in_order() -> None:
    gateway = MemoryGateway(memory_settings(max_upload_bytes=10_000))
    async with gateway.client() as client:
        answer = await client.post(
            "/images?user_id=1",
            files=files(("1.png", PNG), ("2.png", b"text"), ("3.png", PNG + b"x" * 20_000), ("4.jpg", JPEG)),
        )

    first, second, third, fourth = answer.json()["images"]
    assert answer.status_code == 202
    assert (first["file_name"], first["status"]) == ("1.png", "processing")
    assert (second["code"], second["status"], second["file_name"]) == ("unsupported_format", 415, "2.png")
    assert (third["code"], third["status"]) == ("file_too_large", 413)
    assert fourth["file_name"] == "4.jpg"
    assert [str(item.image_id) for item in gateway.log.commands if isinstance(item, Uploaded)] == [
        first["image_id"],
        fourth["image_id"],
    ]


async def test_a_batch_without_any_acceptable_file_is_refused_with_each_reason() -> None:
    gateway = MemoryGateway()
    async with gateway.client() as client:
        answer = await client.post("/images", files=files(("1.png", b""), ("2.png", b"text")))

    assert (answer.status_code, answer.json()["code"]) == (422, "none_accepted")
    assert [item["code"] for item in answer.json()["images"]] == ["empty", "unsupported_format"]


async def test_a_batch_that_an_outage_cut_in_two_is_to_be_repeated() -> None:
    gateway = MemoryGateway()
    gateway.log.lost = [UnknownOutcome("kafka", "no ack")]
    headers = {"Idempotency-Key": "k"}
    async with gateway.client() as client:
        first = await client.post("/images", files=files(("1.png", PNG), ("2.jpg", JPEG)), headers=headers)
        second = await client.post("/images", files=files(("1.png", PNG), ("2.jpg", JPEG)), headers=headers)

    assert (first.status_code, first.json()["code"]) == (503, "unknown_outcome")
    assert second.status_code == 202
    assert {item.image_id for item in gateway.log.commands if isinstance(item, Uploaded)} == {
        UUID(image["image_id"]) for image in second.json()["images"]
    }


async def test_an_unavailable_engine_is_asked_once_per_batch() -> None:
    """Each time-out is up to 15 s, and a request may bring 20 files."""
    gateway = MemoryGateway()
    batch = files(*((f"{number}.png", PNG) for number in range(12)))
    async with gateway.client() as client:
        gateway.log.errors = [Unavailable("kafka", "unavailable")]
        without_log = await client.post("/images", files=batch)
        stored = len(gateway.store.objects)
        gateway.store.unavailable = True
        without_store = await client.post("/images", files=batch)

    assert (without_log.status_code, without_store.status_code) == (503, 503)
    assert [problem["code"] for problem in without_log.json()["images"]] == ["unavailable"] * 12
    assert gateway.log.commands == []
    assert stored == 12
    assert gateway.store.refused <= CONCURRENT_PUTS


@pytest.mark.parametrize(
    ("params", "fields", "code"),
    [
        ({"owner_type": "image", "owner_id": "1"}, {}, "reserved_owner"),
        ({"user_id": "1"}, {"product_id": "2"}, "invalid_owner"),
        ({"user_id": "1"}, {"user_id": "1"}, "invalid_owner"),
        ({"owner_type": "user"}, {}, "invalid_owner"),
        ({}, {"owner_type": "User", "owner_id": "1"}, "invalid_owner"),
        ({"user_id": "x" * 129}, {}, "invalid_owner"),
        ({"user_id": "a\nb"}, {}, "invalid_owner"),
        ({"user_id": ""}, {}, "invalid_owner"),
    ],
)
async def test_an_invalid_owner_is_refused(params: dict[str, str], fields: dict[str, str], code: str) -> None:
    gateway = MemoryGateway()
    async with gateway.client() as client:
        answer = await client.post("/images", params=params, data=fields, files=files(("a.png", PNG)))

    assert (answer.status_code, answer.json()["code"]) == (400, code)
    assert gateway.store.objects == {}


@pytest.mark.parametrize("owner_id", ["1", "01", "a/b", "a:b", "100%", "../x", "*", "?", "日本", "a b", "#&=+"])
async def test_any_text_can_be_an_owner_id(owner_id: str) -> None:
    gateway = MemoryGateway()
    async with gateway.client() as client:
        in_query = await client.post("/images", params={"user_id": owner_id}, files=files(("a.png", PNG)))
        in_form = await client.post(
            "/images", data={"owner_type": "user", "owner_id": owner_id}, files=files(("a.png", PNG))
        )

    assert in_query.json()["owner_id"] == in_form.json()["owner_id"] == owner_id
    assert {item.owner for item in gateway.log.commands} == {Owner(type="user", id=owner_id)}


async def test_names_that_only_look_like_selectors_are_none() -> None:
    gateway = MemoryGateway()
    async with gateway.client() as client:
        answer = await client.post("/images?request_id=1&upload_id=2&image_id=3", files=files(("a.png", PNG)))

    assert answer.json()["owner_type"] == "image"


@pytest.mark.parametrize(
    ("request_", "status", "code"),
    [
        ({"files": files(("a.png", PNG), ("b.png", PNG))}, 400, "too_many_files"),
        ({"files": [("photo", ("a.png", PNG))]}, 400, "bad_request"),
        ({"data": {"user_id": "1"}, "files": [("x", (None, b""))]}, 400, "no_file"),
        ({"json": {"image": "x"}}, 415, "not_multipart"),
        ({"content": b""}, 415, "not_multipart"),
        ({"files": files(("a.png", b""))}, 422, "empty"),
        ({"files": files(("a.png", PNG[: len(PNG) // 2]))}, 422, "truncated"),
        ({"files": files(("a.svg", b"<svg/>"))}, 415, "unsupported_format"),
        ({"content": b"x", "headers": {"Content-Type": "multipart/form-data; boundary=x"}}, 400, "malformed_form"),
    ],
)
async def test_an_invalid_upload_is_refused_before_anything_is_stored(
    request_: dict[str, Any], status: int, code: str
) -> None:
    gateway = MemoryGateway()
    async with gateway.client() as client:
        answer = await client.post("/upload", **request_)

    assert (answer.status_code, answer.json()["code"]) == (status, code)
    assert answer.headers["content-type"] == "application/problem+json"
    assert gateway.store.objects == {}
    assert gateway.log.commands == []


async def test_exactly_the_limit_is_accepted_and_one_byte_more_is_413() -> None:
    padded = JPEG + b"\0" * (5_242_880 - len(JPEG))
    gateway = MemoryGateway()
    async with gateway.client() as client:
        exact = await client.post("/upload", files=files(("a.jpg", padded)))
        above = await client.post("/upload", files=files(("a.jpg", padded + b"\0")))

    assert exact.status_code == 201
    assert (above.status_code, above.json()["code"]) == (413, "file_too_large")


async def test_an_announced_length_that_no_form_can_have_is_refused_unread() -> None:
    gateway = MemoryGateway()
    async with gateway.client() as client:
        headers = {"Content-Type": "multipart/form-data; boundary=x", "Content-Length": str(10**12)}
        answer = await client.post("/upload", content=b"--x", headers=headers)

    assert (answer.status_code, answer.json()["code"]) == (413, "body_too_large")
    assert answer.headers["connection"] == "close"


async def test_a_gateway_without_capacity_refuses_uploads() -> None:
    gateway = MemoryGateway(memory_settings(max_upload_memory=100))
    async with gateway.client() as client:
        by_memory = await client.post("/upload", files=files(("a.png", PNG)))
        with _full(gateway.services):
            by_slots = await client.post("/upload", files=files(("a.png", PNG)))

    for answer in (by_memory, by_slots):
        assert (answer.status_code, answer.json()["code"], answer.headers["retry-after"]) == (429, "saturated", "1")


def _full(services: Services) -> ExitStack:
    stack = ExitStack()
    for number in range(services.settings.max_concurrent_uploads):
        stack.enter_context(services.admission.admit(f"192.0.2.{number}"))
    return stack


async def test_slots_and_memory_are_freed_after_success_and_refusal() -> None:
    gateway = MemoryGateway(memory_settings(max_concurrent_uploads=1, max_upload_memory=2 * len(PNG)))
    async with gateway.client() as client:
        for name, data in (("a.png", PNG), ("b.png", b"text"), ("c.png", PNG)) * 3:
            answer: httpx.Response = await client.post("/upload", files=files((name, data)))
            assert answer.status_code in (201, 415)


async def test_prefer_wait_is_applied_and_ends() -> None:
    gateway = MemoryGateway()
    async with gateway.client() as client:
        answer = await client.post("/images", files=files(("a.png", PNG)), headers={"Prefer": "respond-async, wait=1"})

    assert answer.status_code == 202
    assert answer.headers["preference-applied"] == "wait=1"


@pytest.mark.parametrize(("method", "path"), [("POST", "/images"), ("PUT", "/images"), ("PUT", "/images/{image_id}")])
async def test_a_waiting_request_holds_no_file(method: str, path: str, monkeypatch: pytest.MonkeyPatch) -> None:
    gateway = MemoryGateway()
    held: list[int] = []

    async def settled(*_: Any) -> None:
        # The loop itself holds the result of the step that it is in.
        await asyncio.sleep(0)
        held.append(sum(isinstance(found, CheckedFile | FormFile) for found in gc.get_objects()))

    monkeypatch.setattr(gateway.services.waiting, "settled", settled)
    async with gateway.client() as client:
        old = (await client.post("/images?user_id=1", files=files(("a.png", PNG)))).json()
        address = path.format(**old) if "{" in path else f"{path}?user_id=1"
        gc.collect()
        answer = await client.request(method, address, files=files(("b.jpg", JPEG)), headers={"Prefer": "wait=10"})

    assert answer.status_code == 202
    assert held == [0]


async def test_waiting_ends_with_the_outcome_of_this_request() -> None:
    gateway = MemoryGateway()
    async with gateway.client() as client:
        answer = await client.post("/images", files=files(("a.png", PNG)))
        command_ = command(gateway)
        version = command_version(1, 0)
        failed = Failed(
            image_id=command_.image_id,
            owner=command_.owner,
            version=version,
            answers="image.uploaded",
            image_version=version,
            request=LoggedRenderCommand(command_, version).request,
            error=Failure(type="undecodable", detail="no picture"),
        )
        await gateway.index.apply(event_writes(failed, 4))
        waiting = gateway.services.waiting
        [found] = await waiting.settled([answer.json()], 1) or []
        [other] = await waiting.settled([replaced_elsewhere(answer.json())], 0.2) or []

    assert (found["status"], found["error"]["type"]) == ("failed", "undecodable")
    assert other["status"] == "processing"


def replaced_elsewhere(document: dict[str, Any]) -> dict[str, Any]:
    """The document of a replacement that the row does not show yet."""
    return document | {"pending": {"revision": str(new_id())}}
