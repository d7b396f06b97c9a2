"""Reading from the running stack: lists, documents and bytes, directly after the write and once rendered."""

import secrets

import pytest

from tests.support.api import JPEG, PNG, Api, form
from tests.support.images import decode, encode, photo

BROKEN = bytearray(encode(photo(200, 150), "PNG"))
BROKEN[len(BROKEN) // 2 : len(BROKEN) // 2 + 40] = bytes(40)
"""Passes the gateway's check of the header, and fails in every decoder."""


def test_an_upload_is_listed_and_served_directly_after_the_answer(api: Api, owner: dict[str, str]) -> None:
    for _ in range(10):
        image_id = api.upload(PNG, "a.png", **owner)["image_id"]
        # Without `no-cache`: the gateway that wrote must not use its old cache entry.
        assert api.get("/images", params=owner).json()[0]["image_id"] == image_id
        assert image_id in [item["image_id"] for item in api.get("/images", params={"limit": 20}).json()]
        assert api.get(f"/images/{image_id}").content == PNG
        assert api.get(f"/images/{image_id}/metadata").json()["image_id"] == image_id
    assert len(api.get("/images", params=owner).json()) == 10


def test_list_has_the_documented_fields(api: Api, owner: dict[str, str]) -> None:
    image_id = api.upload(JPEG, "dune.jpg", **owner)["image_id"]
    api.settled(image_id)
    [item] = api.get("/images", params=owner, headers={"Cache-Control": "no-cache"}).json()
    assert (item["image_id"], item["file_name"], item["size"]) == (image_id, "dune.jpg", len(JPEG))
    assert item["uploaded_at"].endswith("Z")
    document = api.document(image_id)
    assert document is not None
    assert document.pop("picture")["sources"], "a list leaves the picture out"
    assert item == document
    assert len(item["variants"]) == 4


def test_each_variant_is_served_by_name_and_by_url(api: Api, owner: dict[str, str]) -> None:
    found = api.settled(api.upload(JPEG, **owner)["image_id"])
    for variant in found["variants"]:
        by_name = api.get(f"/images/{found['image_id']}", params={"variant": variant["name"]})
        by_url = api.get(variant["url"])
        assert by_name.content == by_url.content
        assert by_name.headers["Content-Type"] == by_url.headers["Content-Type"] == "image/webp"
        assert len(by_url.content) == variant["size"]
        assert decode(by_url.content).size == (variant["width"], variant["height"])
    assert api.get(found["original"]["url"]).content == JPEG


def test_a_failed_image_serves_its_original(api: Api, owner: dict[str, str]) -> None:
    found = api.settled(api.upload(bytes(BROKEN), "broken.png", **owner)["image_id"])
    assert found["status"] == "failed"
    assert api.get(f"/images/{found['image_id']}").content == bytes(BROKEN)
    problem = api.get(f"/images/{found['image_id']}", params={"variant": "full"})
    assert (problem.status_code, problem.json()["code"]) == (404, "render_failed")
    assert problem.json()["error"] == found["error"]


def test_a_replacement_is_seen_at_once_and_served_when_ready(api: Api, owner: dict[str, str]) -> None:
    old = api.settled(api.upload(PNG, "old.png", **owner)["image_id"])
    path = f"/images/{old['image_id']}"
    first = api.get(path)
    assert api.put(path, files=form(("new.jpg", JPEG))).status_code == 202
    assert api.get(f"{path}/metadata").json()["pending"]["file_name"] == "new.jpg"
    api.settled(old["image_id"])
    later = api.get(path, headers={"If-None-Match": first.headers["ETag"], "Cache-Control": "no-cache"})
    assert (later.status_code, later.content) == (200, JPEG)
    assert later.headers["ETag"] != first.headers["ETag"]


def test_a_deletion_is_seen_at_once_everywhere(api: Api, owner: dict[str, str]) -> None:
    found = api.settled(api.upload(JPEG, **owner)["image_id"])
    urls = [found["original"]["url"], *(variant["url"] for variant in found["variants"])]
    assert all(api.get(url).status_code == 200 for url in urls)
    assert api.get("/images", params=owner).json()

    assert api.delete(f"/images/{found['image_id']}").status_code == 204

    assert api.get("/images", params=owner).json() == []
    assert found["image_id"] not in [item["image_id"] for item in api.get("/images", params={"limit": 20}).json()]
    for path in (f"/images/{found['image_id']}", f"/images/{found['image_id']}/metadata", *urls):
        answer = api.get(path)
        assert (answer.status_code, answer.headers["Content-Type"]) == (404, "application/problem+json")


@pytest.mark.parametrize("key", ["a/b", "a:b", "a%2Fb", "../x", "*", "?", "ü🏜", "1", "01", " ", "a&b=c#d", "image"])
def test_any_owner_id_selects_its_own_images_alone(api: Api, key: str) -> None:
    kind = f"t{secrets.token_hex(6)}"
    image_id = api.upload(PNG, "a.png", owner_type=kind, owner_id=key)["image_id"]
    api.upload(PNG, "b.png", owner_type=kind, owner_id=key + "x")
    for params in ({"owner_type": kind, "owner_id": key}, {f"{kind}_id": key}):
        [item] = api.get("/images", params=params).json()
        assert (item["image_id"], item["owner_id"]) == (image_id, key)


def test_an_upload_without_an_owner_is_found_under_itself(api: Api) -> None:
    image_id = api.post("/upload", files=form(("a.png", PNG))).json()["image_id"]
    [item] = api.get("/images", params={"owner_type": "image", "owner_id": image_id}).json()
    assert item["image_id"] == image_id
