"""Uploading to the running stack: the first answer, and the final document."""

import hashlib
import secrets
from typing import Any
from uuid import UUID

import pytest

from tests.support.api import JPEG, PNG, Api, form
from tests.support.images import encode, photo

WEBP = encode(photo(120, 90), "WEBP")
FIVE_MIB = 5_242_880


def test_upload_keeps_its_contract(api: Api) -> None:
    answer = api.post("/upload", files=form(("photo.jpg", JPEG)))

    image_id = answer.json()["image_id"]
    assert answer.status_code == 201
    assert answer.json() == {"image_id": image_id, "status": "success"}
    assert UUID(image_id).version == 7
    assert api.settled(image_id)["status"] == "ready"


@pytest.mark.parametrize(("data", "kind"), [(JPEG, "jpeg"), (PNG, "png"), (WEBP, "webp")])
def test_every_format_becomes_webp_in_four_sizes(api: Api, owner: dict[str, str], data: bytes, kind: str) -> None:
    found = api.settled(api.upload(data, f"photo.{kind}", **owner)["image_id"])

    assert (found["status"], found["original"]["content_type"]) == ("ready", f"image/{kind}")
    assert [variant["name"] for variant in found["variants"]] == ["full", "large", "medium", "small"]
    widths = [variant["width"] for variant in found["variants"]]
    assert widths[0] == found["original"]["width"]
    assert widths == sorted(widths, reverse=True)
    for variant in found["variants"]:
        fetched = api.get(variant["url"])
        assert fetched.headers["content-type"] == "image/webp"
        assert hashlib.sha256(fetched.content).hexdigest() == variant["sha256"]


def test_image_is_visible_to_its_uploader_at_once(api: Api, owner: dict[str, str]) -> None:
    assert api.get("/images", params=owner).json() == []

    image_id = api.upload(JPEG, **owner)["image_id"]

    listed = api.get("/images", params=owner).json()
    assert [image["image_id"] for image in listed] == [image_id]
    assert image_id in [image["image_id"] for image in api.get("/images").json()]
    assert api.get(f"/images/{image_id}").content == JPEG
    assert api.get(listed[0]["original"]["url"]).content == JPEG


def test_waiting_gives_the_finished_document(api: Api, owner: dict[str, str]) -> None:
    answer = api.post("/images", params=owner, files=form(("photo.jpg", JPEG)), headers={"Prefer": "wait=30"})

    assert (answer.status_code, answer.json()["status"]) == (200, "ready")
    assert answer.headers["preference-applied"] == "wait=30"
    assert len(answer.json()["variants"]) == 4
    assert [image["status"] for image in api.get("/images", params=owner).json()] == ["ready"]


def test_batch_is_accepted_file_by_file(api: Api, owner: dict[str, str]) -> None:
    files = [("1.jpg", JPEG), ("2.txt", b"text"), ("3.png", PNG), ("4.jpg", JPEG + b"\0" * FIVE_MIB), ("5.webp", WEBP)]
    answer = api.post("/images", data=owner, files=form(*files), headers={"Prefer": "wait=30"})

    images = answer.json()["images"]
    assert answer.status_code == 200
    assert [image.get("file_name") for image in images] == [name for name, _ in files]
    assert [image.get("code", image["status"]) for image in images] == [
        "ready", "unsupported_format", "ready", "file_too_large", "ready",
    ]  # fmt: skip
    assert api.ids_of(**owner) == [images[4]["image_id"], images[2]["image_id"], images[0]["image_id"]]


def test_five_mebibytes_are_accepted_and_one_byte_more_is_refused(api: Api) -> None:
    padded = JPEG + b"\0" * (FIVE_MIB - len(JPEG))

    assert api.post("/upload", files=form(("a.jpg", padded))).status_code == 201
    above = api.post("/upload", files=form(("a.jpg", padded + b"\0")))
    assert (above.status_code, above.json()["code"]) == (413, "file_too_large")


@pytest.mark.parametrize(
    "selector",
    [
        {"owner_type": "product", "owner_id": "a/b:c%d"},
        {"user_id": "../../x"},
        {"user_id": "*"},
        {"user_id": "日本 語"},
        {"shop_order_id": "#?&="},
        {"user_id": "00" + "7"},
    ],
)
def test_any_owner_key_is_accepted_by_every_route(api: Api, selector: dict[str, str]) -> None:
    salt = secrets.token_hex(4)
    key = "owner_id" if "owner_id" in selector else next(iter(selector))
    owner = selector | {key: selector[key] + salt}
    uploaded = api.post("/images", params=owner, files=form(("a.png", PNG)))
    assert uploaded.status_code == 202

    found = api.settled(uploaded.json()["image_id"])

    def listed() -> list[str]:
        answer = api.get("/images", params=owner, headers={"Cache-Control": "no-cache"})
        return [image["image_id"] for image in answer.raise_for_status().json()]

    assert (found["status"], found["owner_id"]) == ("ready", owner[key])
    assert listed() == [found["image_id"]]
    assert api.delete("/images", params=owner).status_code == 204
    assert listed() == []


def test_owners_that_look_alike_are_different(api: Api) -> None:
    salt = secrets.token_hex(4)
    first = api.upload(PNG, user_id=f"{salt}1")["image_id"]
    second = api.upload(PNG, user_id=f"{salt}01")["image_id"]

    assert (api.ids_of(user_id=f"{salt}1"), api.ids_of(user_id=f"{salt}01")) == ([first], [second])


@pytest.mark.parametrize(
    ("sent", "kept"),
    [
        ("../../etc/passwd.png", "passwd.png"),
        ("a\r\nX-Injected: 1.png", None),
        ('quo"te.png', 'quo"te.png'),
        ("日本語.png", "日本語.png"),
        ("\u202egnp.exe", "gnp.exe"),
    ],
)
def test_hostile_file_names_are_stored_safely(api: Api, owner: dict[str, str], sent: str, kept: str | None) -> None:
    found = api.upload(PNG, sent, **owner)

    fetched = api.get(f"/images/{found['image_id']}")
    assert kept is None or found["file_name"] == kept
    assert "\r" not in found["file_name"]
    assert "x-injected" not in fetched.headers
    assert fetched.content == PNG


def test_picture_that_fails_to_decode_is_failed(api: Api, owner: dict[str, str]) -> None:
    broken = bytearray(encode(photo(200, 150), "PNG"))
    middle = len(broken) // 2
    broken[middle : middle + 40] = bytes(40)

    found: dict[str, Any] = api.settled(api.upload(bytes(broken), "broken.png", **owner)["image_id"])

    assert found["status"] == "failed"
    assert found["error"]["type"]
    assert api.get(f"/images/{found['image_id']}").content == bytes(broken)
