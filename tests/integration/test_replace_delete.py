"""Replacing and deleting on the running stack: by id, by URL, by owner, also while a command is being handled."""

import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import pytest

from shared.s3.store import s3_client
from tests.support.api import JPEG, PNG, Api, form
from tests.support.engines.stack import Stack
from tests.support.images import broken_png, encode, photo
from tests.support.waiting import wait_for

OTHER = encode(photo(260, 180), "JPEG")


def objects(stack: Stack, image_id: str) -> list[str]:
    client = s3_client(stack.settings)
    found = client.list_objects_v2(Bucket=stack.settings.s3_bucket, Prefix=f"images/{image_id}/")
    return [item["Key"] for item in found.get("Contents", [])]


def test_the_old_variants_are_served_until_the_new_ones_are_ready(api: Api, owner: dict[str, str]) -> None:
    old = api.settled(api.upload(JPEG, **owner)["image_id"])

    answer = api.put(f"/images/{old['image_id']}", files=form(("new.jpg", OTHER)))

    assert (answer.status_code, answer.json()["status"]) == (202, "processing")
    assert answer.json()["variants"] == old["variants"]
    assert answer.json()["pending"]["file_name"] == "new.jpg"
    new = api.settled(old["image_id"])
    assert (new["status"], new["pending"], new["file_name"]) == ("ready", None, "new.jpg")
    assert (new["owner_id"], new["uploaded_at"]) == (old["owner_id"], old["uploaded_at"])
    assert not {variant["url"] for variant in new["variants"]} & {variant["url"] for variant in old["variants"]}
    assert api.get(f"/images/{old['image_id']}").content == OTHER
    assert api.ids_of(**owner) == [old["image_id"]]


def test_failed_replacement_keeps_the_old_image_and_reports_its_error(api: Api, owner: dict[str, str]) -> None:
    old = api.settled(api.upload(JPEG, **owner)["image_id"])

    answer = api.put(
        f"/images/{old['image_id']}", files=form(("broken.png", broken_png())), headers={"Prefer": "wait=30"}
    )

    found = answer.json()
    assert (answer.status_code, found["status"]) == (200, "failed")
    assert found["variants"] == old["variants"]
    assert (found["pending"]["status"], found["pending"]["file_name"]) == ("failed", "broken.png")
    assert found["pending"]["error"]["type"] == found["error"]["type"]
    assert api.get(f"/images/{old['image_id']}").content == JPEG


def test_replacements_one_after_the_other_end_with_the_last(api: Api, owner: dict[str, str]) -> None:
    image_id = api.upload(JPEG, **owner)["image_id"]
    for number in range(5):
        last = encode(photo(100 + number, 80), "JPEG")
        assert api.put(f"/images/{image_id}", files=form((f"{number}.jpg", last))).status_code == 202

    found = api.settled(image_id)

    assert (found["file_name"], found["original"]["width"], found["status"]) == ("4.jpg", 104, "ready")


def test_a_deleted_image_is_gone_everywhere(api: Api, stack: Stack, owner: dict[str, str]) -> None:
    old = api.settled(api.upload(JPEG, **owner)["image_id"])
    urls = [old["original"]["url"], *(variant["url"] for variant in old["variants"])]

    assert api.delete(f"/images/{old['image_id']}").status_code == 204

    assert [api.get(url).status_code for url in urls] == [404] * 5
    assert api.get(f"/images/{old['image_id']}").status_code == 404
    assert api.ids_of(**owner) == []
    assert api.delete(f"/images/{old['image_id']}").status_code == 404
    wait_for(lambda: objects(stack, old["image_id"]) == [], 60, "the bucket has none of its objects")


def test_delete_wins_over_a_running_render(api: Api, stack: Stack, owner: dict[str, str]) -> None:
    ids = [api.upload(OTHER, **owner)["image_id"] for _ in range(6)]
    for image_id in ids:
        assert api.delete(f"/images/{image_id}").status_code == 204

    wait_for(lambda: all(objects(stack, image_id) == [] for image_id in ids), 60, "no object is left")
    assert api.ids_of(**owner) == []
    assert [api.document(image_id) for image_id in ids] == [None] * 6


def test_a_replacement_after_a_delete_is_404(api: Api, owner: dict[str, str]) -> None:
    image_id = api.upload(JPEG, **owner)["image_id"]
    api.delete(f"/images/{image_id}")

    assert api.put(f"/images/{image_id}", files=form(("new.jpg", OTHER))).status_code == 404


@pytest.mark.parametrize("base", [None, "https://cdn.example.com/some/where/"])
def test_deleting_by_the_url_of_the_original(api: Api, owner: dict[str, str], base: str | None) -> None:
    old = api.upload(JPEG, **owner)
    url = base + old["original"]["path"] if base else old["original"]["url"]

    assert api.delete("/images", params={"url": url}).status_code == 204
    assert api.delete("/images", params={"url": url}).status_code == 404
    assert api.ids_of(**owner) == []


def test_clearing_an_owner_keeps_the_images_of_others(api: Api, stack: Stack, owner: dict[str, str]) -> None:
    ids = [api.upload(PNG, **owner)["image_id"] for _ in range(5)]
    other = api.upload(PNG, user_id=owner["user_id"] + "x")["image_id"]

    assert api.delete("/images", params=owner).status_code == 204

    assert api.ids_of(**owner) == []
    assert api.delete("/images", params=owner).status_code == 204
    assert api.settled(other)["status"] == "ready"
    wait_for(lambda: all(objects(stack, image_id) == [] for image_id in ids), 60, "no object is left")
    assert api.ids_of(**owner) == []


def test_an_upload_after_the_clearing_stays(api: Api, owner: dict[str, str]) -> None:
    api.upload(PNG, **owner)
    api.delete("/images", params=owner)
    later = api.upload(PNG, **owner)["image_id"]

    assert api.settled(later)["status"] == "ready"
    assert api.ids_of(**owner) == [later]


def test_a_set_replaces_the_owners_images(api: Api, owner: dict[str, str]) -> None:
    for _ in range(3):
        api.upload(PNG, **owner)

    files = form(("1.jpg", JPEG), ("2.jpg", OTHER))
    answer = api.put("/images", params=owner, files=files, headers={"Prefer": "wait=30"})

    ids = [image["image_id"] for image in answer.json()["images"]]
    assert (answer.status_code, [image["status"] for image in answer.json()["images"]]) == (200, ["ready", "ready"])
    assert api.ids_of(**owner) == ids[::-1]


def test_one_file_onto_one_image_replaces_it_in_place(api: Api, owner: dict[str, str]) -> None:
    old = api.settled(api.upload(JPEG, **owner)["image_id"])

    answer = api.put("/images", params=owner, files=form(("new.jpg", OTHER)), headers={"Prefer": "wait=30"})

    [found] = answer.json()["images"]
    assert (found["image_id"], found["status"], found["file_name"]) == (old["image_id"], "ready", "new.jpg")
    assert api.ids_of(**owner) == [old["image_id"]]


def test_a_set_with_one_bad_file_changes_nothing(api: Api, owner: dict[str, str]) -> None:
    old = api.upload(JPEG, **owner)["image_id"]

    answer = api.put("/images", params=owner, files=form(("1.jpg", JPEG), ("2.jpg", b"text")))

    assert (answer.status_code, answer.json()["code"]) == (415, "unsupported_format")
    assert api.ids_of(**owner) == [old]


def test_of_sets_at_the_same_time_exactly_one_is_left(api: Api, owner: dict[str, str]) -> None:
    for _ in range(2):
        api.upload(PNG, **owner)

    def put(number: int) -> tuple[int, list[str]]:
        names = (f"{number}-a.jpg", JPEG), (f"{number}-b.jpg", OTHER)
        answer = api.put("/images", params=owner, files=form(*names), headers={"Idempotency-Key": f"set-{number}"})
        return answer.status_code, [image["image_id"] for image in answer.json().get("images", ())]

    with ThreadPoolExecutor(4) as pool:
        answers = list(pool.map(put, range(4)))

    accepted = [ids for status, ids in answers if status == 202]
    assert {status for status, _ in answers} == {202, 409}
    assert sorted(api.ids_of(**owner)) in [sorted(ids) for ids in accepted]
    refused = next(number for number, (status, _) in enumerate(answers) if status == 409)
    status, repeated = put(refused)
    assert (status, sorted(api.ids_of(**owner))) == (202, sorted(repeated))
    assert put(refused) == (status, repeated)


@pytest.mark.parametrize("methods", [("PUT", "PUT"), ("PUT", "DELETE")])
def test_of_two_conditional_updates_of_one_version_one_succeeds(
    api: Api, stack: Stack, owner: dict[str, str], methods: tuple[str, str]
) -> None:
    """Each round races two requests for the version that both have read. The loser reads again, and then succeeds."""
    for _ in range(5):
        document = api.upload(JPEG, **owner)
        address, condition = f"/images/{document['image_id']}", {"If-Match": f'"{document["version"]}"'}

        def update(method: str, address: str = address, headers: dict[str, str] = condition) -> httpx.Response:
            files: dict[str, Any] = {"files": form(("new.png", PNG))} if method == "PUT" else {}
            with Api(stack.base_url) as client:
                while (answer := client.request(method, address, headers=headers, **files)).status_code == 409:
                    time.sleep(float(answer.headers["Retry-After"]))
                return answer

        with ThreadPoolExecutor(2) as pool:
            answers = list(pool.map(update, methods))
        won, lost = sorted(answers, key=lambda answer: answer.status_code)
        assert won.status_code in (202, 204), won.text
        assert lost.status_code in (404, 412), lost.text
        found = api.document(document["image_id"])
        if won.request.method == "DELETE":
            assert found is None
            continue
        assert found is not None
        assert found["version"] == won.json()["version"]
        assert update("PUT", headers={"If-Match": f'"{found["version"]}"'}).status_code == 202
