"""Replacing and deleting over engines in memory: the responses, and the commands in the log."""

from datetime import datetime
from typing import Any
from uuid import UUID

import httpx
import pytest

from shared.contract.events import Deleted, OwnerCleared, Replaced, Uploaded
from shared.contract.keys import Owner, command_version
from shared.contract.logged_command import versioned
from shared.errors import Unavailable, UnknownOutcome
from shared.read_model.tables import IMAGES, command_writes
from tests.support import records
from tests.support.ghosts import images_below_ghosts
from tests.support.images import encode, photo
from tests.support.memory.gateway import MemoryGateway

PNG = encode(photo(40, 30), "PNG")
JPEG = encode(photo(64, 48), "JPEG")
USER = Owner(type="user", id="1")
MISSING = UUID("01a202b6-de8b-7263-bb6d-eec9c6bdacf8")


def form(*data: bytes) -> list[tuple[str, tuple[str, bytes]]]:
    return [("image", (f"{number}.img", item)) for number, item in enumerate(data)]


async def upload(client: httpx.AsyncClient, data: bytes = PNG, **owner: str) -> dict[str, Any]:
    answer = await client.post("/images", params=owner, files=form(data))
    assert answer.status_code == 202, answer.text
    document: dict[str, Any] = answer.json()
    return document


async def owned(gateway: MemoryGateway) -> set[str]:
    return {str(row.image_id) for row in await gateway.index.of_owner(USER, limit=100)}


async def test_replacing_keeps_id_and_owner_and_changes_the_urls() -> None:
    gateway = MemoryGateway()
    async with gateway.client() as client:
        old = await upload(client, user_id="1")
        answer = await client.put(f"/images/{old['image_id']}", files=form(JPEG))

    new, command = answer.json(), gateway.log.commands[-1]
    assert answer.status_code == 202
    assert (new["image_id"], new["owner_id"], new["uploaded_at"]) == (old["image_id"], "1", old["uploaded_at"])
    assert new["original"]["url"] != old["original"]["url"]
    assert isinstance(command, Replaced)
    assert command.image_version == command_version(1, 0)
    assert len(gateway.store.objects) == 2


@pytest.mark.parametrize("method", ["PUT", "DELETE"])
@pytest.mark.parametrize("image_id", [str(MISSING), "not-an-id", "0"])
async def test_an_image_that_is_not_there_is_404(method: str, image_id: str) -> None:
    gateway = MemoryGateway()
    async with gateway.client() as client:
        options: dict[str, Any] = {"files": form(PNG)} if method == "PUT" else {}
        answer = await client.request(method, f"/images/{image_id}", **options)

    assert (answer.status_code, answer.json()["code"]) == (404, "not_found")
    assert gateway.log.commands == []
    assert gateway.store.objects == {}


async def test_an_owner_cannot_be_changed() -> None:
    gateway = MemoryGateway()
    async with gateway.client() as client:
        old = await upload(client, user_id="1")
        answer = await client.put(f"/images/{old['image_id']}?user_id=2", files=form(JPEG))

    assert (answer.status_code, answer.json()["code"]) == (400, "invalid_owner")


async def test_a_deleted_image_is_gone_at_once_and_404_the_second_time() -> None:
    gateway = MemoryGateway()
    async with gateway.client() as client:
        old = await upload(client, user_id="1")
        first = await client.delete(f"/images/{old['image_id']}")
        second = await client.delete(f"/images/{old['image_id']}")

    assert (first.status_code, first.content) == (204, b"")
    assert second.status_code == 404
    assert gateway.log.commands[-1] == Deleted(image_id=UUID(old["image_id"]), owner=USER)
    assert await owned(gateway) == set()


async def test_a_row_stays_until_the_delete_is_acked() -> None:
    gateway = MemoryGateway()
    async with gateway.client() as client:
        old = await upload(client, user_id="1")
        gateway.log.errors = [Unavailable("kafka", "down")]
        answer = await client.delete(f"/images/{old['image_id']}")

    assert answer.status_code == 503
    assert await owned(gateway) == {old["image_id"]}


@pytest.mark.parametrize("base", ["", "https://cdn.example.com/a/b/", "http://other:1/media/"])
async def test_deleting_by_url_goes_by_the_id_in_it(base: str) -> None:
    gateway = MemoryGateway()
    async with gateway.client() as client:
        old = await upload(client, user_id="1")
        url = base + old["original"]["path"] if base else old["original"]["url"]
        first = await client.delete("/images", params={"url": url})
        second = await client.delete("/images", params={"url": url})

    assert (first.status_code, second.status_code) == (204, 404)


@pytest.mark.parametrize(
    ("params", "status"),
    [
        ({}, 400),
        ({"url": "http://x/y.jpg", "user_id": "1"}, 400),
        ([("url", "http://x/a"), ("url", "http://x/b")], 400),
        ({"user_id": "1", "product_id": "1"}, 400),
        ({"owner_type": "image", "owner_id": str(MISSING)}, 400),
        ({"url": "http://x/y.jpg"}, 404),
        ({"url": "http://[x/y.jpg"}, 404),
        ({"url": f"http://x/images/{MISSING}/{MISSING}/original.jpg"}, 404),
        ({"url": f"http://x/images/{MISSING}/{MISSING}/0123456789abcdef/full.webp"}, 404),
    ],
)
async def test_exactly_one_valid_selector_is_needed(params: Any, status: int) -> None:
    gateway = MemoryGateway()
    async with gateway.client() as client:
        answer = await client.delete("/images", params=params)

    assert answer.status_code == status
    assert gateway.log.commands == []


async def test_clearing_an_owner_fences_first_and_spares_others() -> None:
    gateway = MemoryGateway()
    async with gateway.client() as client:
        for _ in range(3):
            await upload(client, user_id="1")
        other = await upload(client, user_id="2")
        first = await client.delete("/images?user_id=1")
        second = await client.delete("/images?user_id=1")

    fence, *deletes = gateway.log.commands[4:8]
    assert (first.status_code, second.status_code) == (204, 204)
    assert fence == OwnerCleared(owner=USER)
    assert all(isinstance(command, Deleted) for command in deletes)
    assert await owned(gateway) == set()
    assert await gateway.index.image(UUID(other["image_id"])) is not None


async def test_before_the_fence_is_acked_nothing_is_removed() -> None:
    gateway = MemoryGateway()
    async with gateway.client() as client:
        old = await upload(client, user_id="1")
        gateway.log.errors = [UnknownOutcome("kafka", "no ack")]
        answer = await client.delete("/images?user_id=1")

    assert (answer.status_code, answer.json()["code"]) == (503, "unknown_outcome")
    assert await owned(gateway) == {old["image_id"]}


@pytest.mark.parametrize("failing", ["of_owner", "apply"])
async def test_a_clear_is_503_until_nothing_is_left_to_be_seen(failing: str) -> None:
    gateway = MemoryGateway()
    async with gateway.client() as client:
        old = await upload(client, user_id="1")
        gateway.index.once = [failing]
        first = await client.delete("/images?user_id=1")
        seen = await owned(gateway)
        second = await client.delete("/images?user_id=1")
        put = await client.put("/images?user_id=1", files=form(JPEG))

    assert (first.status_code, first.json()["code"]) == (503, "unavailable")
    assert seen == {old["image_id"]}
    assert second.status_code == 204
    assert await owned(gateway) == {image["image_id"] for image in put.json()["images"]} != seen


async def test_a_delete_is_503_until_the_row_is_gone() -> None:
    gateway = MemoryGateway()
    async with gateway.client() as client:
        old = await upload(client, user_id="1")
        gateway.index.once = ["apply"]
        first = await client.delete(f"/images/{old['image_id']}")
        second = await client.delete(f"/images/{old['image_id']}")
        put = await client.put(f"/images/{old['image_id']}", files=form(JPEG))

    assert (first.status_code, first.json()["code"]) == (503, "unavailable")
    assert (second.status_code, put.status_code) == (204, 404)
    assert await owned(gateway) == set()


@pytest.mark.parametrize("path", ["/images?user_id=1", "/images/{image_id}"])
async def test_an_ack_without_an_offset_removes_nothing_and_can_be_repeated(path: str) -> None:
    gateway = MemoryGateway()
    async with gateway.client() as client:
        path = path.format(**await upload(client, user_id="1"))
        gateway.log.without_offset = True
        first = await client.delete(path)
        gateway.log.without_offset = False
        second = await client.delete(path)

    assert (first.status_code, second.status_code) == (503, 204)
    assert await owned(gateway) == set()


async def written_late(gateway: MemoryGateway, number: int = 0) -> str:
    """The indexer writes the row of an upload that the gateway could not write; returns the image's id."""
    command = gateway.log.commands[number]
    assert isinstance(command, Uploaded)
    await gateway.index.apply(command_writes(versioned(command, command_version(1, number)), 4))
    return str(command.image_id)


async def test_a_cleared_image_whose_row_is_written_late_cannot_be_replaced() -> None:
    gateway = MemoryGateway()
    async with gateway.client() as client:
        gateway.index.once = ["apply"]
        await upload(client, user_id="1")
        cleared = await client.delete("/images?user_id=1")
        late = await written_late(gateway)
        single = await client.put(f"/images/{late}", files=form(JPEG))
        whole = await client.put("/images?user_id=1", files=form(JPEG))

    assert cleared.status_code == 204
    assert (single.status_code, single.json()["code"]) == (404, "not_found")
    assert not any(isinstance(command, Replaced) for command in gateway.log.commands)
    assert await owned(gateway) == {image["image_id"] for image in whole.json()["images"]} != {late}


async def test_images_of_a_set_can_be_replaced_after_its_fence() -> None:
    gateway = MemoryGateway()
    async with gateway.client() as client:
        await upload(client, user_id="1")
        images = (await client.put("/images?user_id=1", files=form(PNG, JPEG))).json()["images"]
        newer = await upload(client, user_id="1")
        answers = [await client.put(f"/images/{image['image_id']}", files=form(PNG)) for image in [*images, newer]]

    assert [answer.status_code for answer in answers] == [202, 202, 202]


@pytest.mark.parametrize("path", ["/images/{image_id}", "/images?user_id=1"])
async def test_without_the_record_of_fences_nothing_is_replaced(path: str) -> None:
    gateway = MemoryGateway()
    async with gateway.client() as client:
        path = path.format(**await upload(client, user_id="1"))
        gateway.index.once = ["cleared_before"]
        answer = await client.put(path, files=form(JPEG))

    assert (answer.status_code, answer.json()["code"]) == (503, "unavailable")
    assert len(gateway.log.commands) == 1


async def test_a_set_replaces_all_images_of_the_owner() -> None:
    gateway = MemoryGateway()
    async with gateway.client() as client:
        for _ in range(3):
            await upload(client, user_id="1")
        answer = await client.put("/images?user_id=1", files=form(PNG, JPEG))

    ids = [image["image_id"] for image in answer.json()["images"]]
    fence = next(command for command in gateway.log.commands if isinstance(command, OwnerCleared))
    assert answer.status_code == 202
    assert await owned(gateway) == set(ids)
    assert fence.before == command_version(1, 3), "the version of the set's first upload"
    assert fence.keep == ()


async def test_one_file_onto_one_image_keeps_its_id() -> None:
    gateway = MemoryGateway()
    async with gateway.client() as client:
        old = await upload(client, user_id="1")
        answer = await client.put("/images?user_id=1", files=form(JPEG))

    [replaced] = gateway.log.commands[1:]
    assert [image["image_id"] for image in answer.json()["images"]] == [old["image_id"]]
    assert isinstance(replaced, Replaced)
    assert await owned(gateway) == {old["image_id"]}


async def test_one_bad_file_leaves_the_set_as_it_was() -> None:
    gateway = MemoryGateway()
    async with gateway.client() as client:
        old = await upload(client, user_id="1")
        answer = await client.put("/images?user_id=1", files=form(PNG, b"text"))

    assert (answer.status_code, answer.json()["code"]) == (415, "unsupported_format")
    assert await owned(gateway) == {old["image_id"]}
    assert len(gateway.log.commands) == 1


async def test_an_outage_between_uploads_and_fence_removes_nothing_and_can_be_repeated() -> None:
    gateway = MemoryGateway()
    headers = {"Idempotency-Key": "k"}
    async with gateway.client() as client:
        await upload(client, user_id="1")
        await upload(client, user_id="1")
        gateway.log.lost = [UnknownOutcome("kafka", "no ack")]
        first = await client.put("/images?user_id=1", files=form(PNG, JPEG), headers=headers)
        seen = await owned(gateway)
        second = await client.put("/images?user_id=1", files=form(PNG, JPEG), headers=headers)

    assert first.status_code == 503
    assert len(seen) == 2, "the old ones"
    assert await owned(gateway) == {image["image_id"] for image in second.json()["images"]}
    assert len({command.image_id for command in gateway.log.commands if isinstance(command, Uploaded)}) == 4


async def test_a_set_tried_again_does_not_replace_its_own_first_try() -> None:
    gateway = MemoryGateway()
    gateway.log.lost = [UnknownOutcome("kafka", "no ack")]
    headers = {"Idempotency-Key": "k"}
    async with gateway.client() as client:
        first = await client.put("/images?user_id=1", files=form(PNG), headers=headers)
        # What the first try had put into the log all the same reaches the index.
        await gateway.index.apply(command_writes(versioned(gateway.log.commands[0], command_version(1, 0)), 4))
        second = await client.put("/images?user_id=1", files=form(PNG), headers=headers)

    assert (first.status_code, second.status_code) == (503, 202)
    assert [command.type for command in gateway.log.commands] == ["image.uploaded", "image.uploaded", "owner.cleared"]
    assert await owned(gateway) == {second.json()["images"][0]["image_id"]}


@pytest.mark.parametrize(("failing", "fenced"), [("of_owner", True), ("apply", False)])
async def test_a_set_is_503_until_it_is_what_is_seen(failing: str, fenced: bool) -> None:
    gateway = MemoryGateway()
    headers = {"Idempotency-Key": "k"}
    async with gateway.client() as client:
        await upload(client, user_id="1")
        gateway.index.once = [failing]
        first = await client.put("/images?user_id=1", files=form(PNG, JPEG), headers=headers)
        commands = list(gateway.log.commands)
        second = await client.put("/images?user_id=1", files=form(PNG, JPEG), headers=headers)

    assert (first.status_code, second.status_code) == (503, 202)
    assert any(isinstance(command, OwnerCleared) for command in commands) == fenced
    assert await owned(gateway) == {image["image_id"] for image in second.json()["images"]}


async def test_a_row_that_is_left_in_one_table_is_not_replaced_in_place() -> None:
    gateway = MemoryGateway()
    async with gateway.client() as client:
        old = await upload(client, user_id="1")
        deleted = command_writes(
            versioned(Deleted(image_id=UUID(old["image_id"]), owner=USER), command_version(1, 0)), 4
        )
        await gateway.index.apply([write for write in deleted if write.table == IMAGES])
        answer = await client.put("/images?user_id=1", files=form(JPEG))

    assert await owned(gateway) == {image["image_id"] for image in answer.json()["images"]} != {old["image_id"]}


@pytest.mark.parametrize(
    ("method", "path"),
    [("PUT", "/images/{image_id}"), ("PUT", "/images?user_id=1"), ("DELETE", "/images/{image_id}")],
)
async def test_without_the_index_an_image_is_neither_replaced_nor_deleted(method: str, path: str) -> None:
    gateway = MemoryGateway()
    async with gateway.client() as client:
        path = path.format(**await upload(client, user_id="1"))
        gateway.index.unavailable = True
        options: dict[str, Any] = {"files": form(JPEG)} if method == "PUT" else {}
        answer = await client.request(method, path, **options)

    assert answer.status_code == 503
    assert len(gateway.log.commands) == 1


@pytest.mark.parametrize(("params", "data"), [({}, (PNG,)), ({"owner_type": "image", "owner_id": "x"}, (PNG,))])
async def test_a_set_needs_an_owner(params: dict[str, str], data: tuple[bytes, ...]) -> None:
    gateway = MemoryGateway()
    async with gateway.client() as client:
        answer = await client.put("/images", params=params, files=form(*data))

    assert answer.status_code == 400
    assert gateway.log.commands == []


async def test_a_set_of_no_files_is_refused() -> None:
    gateway = MemoryGateway()
    async with gateway.client() as client:
        answer = await client.put("/images?user_id=1", files=[("x", (None, b""))])

    assert (answer.status_code, answer.json()["code"]) == (400, "no_file")


async def test_a_replacement_behind_a_delete_does_not_bring_the_image_back() -> None:
    """The PUT has read the row, then the DELETE is acknowledged, then the PUT is appended and writes its row."""
    gateway = MemoryGateway()
    async with gateway.client() as client:
        old = await upload(client, user_id="1")
        row = await gateway.index.image(UUID(old["image_id"]))
        assert row is not None
        deleted = await client.delete(f"/images/{old['image_id']}")
        late = records.replaced(row.image_id, row.image_version, owner=USER)
        journaled = await gateway.services.journal.append(late)
        found = [(await client.get(f"/images/{old['image_id']}{path}")).status_code for path in ("", "/metadata")]
        media = await client.get(old["original"]["url"])
        lists = [(await client.get("/images", params=owner)).json() for owner in ({}, {"user_id": "1"})]
        again = [
            (await client.put(f"/images/{old['image_id']}", files=form(JPEG))).status_code,
            (await client.delete(f"/images/{old['image_id']}")).status_code,
        ]

    assert deleted.status_code == 204
    assert journaled.written
    assert (found, media.status_code, lists, again) == ([404, 404], 404, [[], []], [404, 404])
    assert await gateway.index.row_ids(USER) == [row.image_id]


async def test_clearing_an_owner_passes_ghosts() -> None:
    gateway = MemoryGateway()
    images, _ = await images_below_ghosts(gateway.index, USER, gateway.settings.day_shards, datetime(2026, 5, 1))
    async with gateway.client() as client:
        answer = await client.delete("/images", params={"user_id": "1"})

    assert answer.status_code == 204
    assert [command.image_id for command in gateway.log.commands if isinstance(command, Deleted)] == images
    assert await owned(gateway) == set()
