"""The nginx that takes the place of a CDN, in front of its own gateway whose media is fresh for two seconds."""

import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest

from tests.support.engines.stack import Stack
from tests.support.images import encode, photo
from tests.support.processes.gateway import GatewayProcess, own_gateway
from tests.support.processes.nginx import running_nginx
from tests.support.waiting import wait_for

LIFETIME = 2
"""Seconds that the gateway lets caches keep media here."""
EXPIRY_GRAIN = 1.5
"""nginx counts whole seconds, and an entry is fresh to the end of its last one."""
UNSIGNED = {"X-Amz-Content-Sha256": "STREAMING-UNSIGNED-PAYLOAD-TRAILER"}


@dataclass
class Cdn:
    """A client of the CDN, one of the API, and the gateway behind the CDN: a second one, so that it may be stopped."""

    media: httpx.Client
    api: httpx.Client
    origin: GatewayProcess

    def upload(self, size: int) -> dict[str, Any]:
        files = {"image": ("photo.jpg", encode(photo(size, 100), "JPEG"), "image/jpeg")}
        answer = self.api.post("/images", files=files, headers={"Prefer": "wait=30"})
        assert answer.status_code in (200, 201, 202), answer.text
        return self.ready(answer.json()["image_id"])

    def ready(self, image_id: str) -> dict[str, Any]:
        def look() -> dict[str, Any] | None:
            found: dict[str, Any] = self.api.get(
                f"/images/{image_id}/metadata", headers={"Cache-Control": "no-cache"}
            ).json()
            return found if found["status"] == "ready" and not found["pending"] else None

        return wait_for(look, 60, f"{image_id} is ready")

    def get(self, url: str, **headers: str) -> httpx.Response:
        # Status documents name the host that clients see; here it is the CDN's port.
        return self.media.get(urlsplit(url).path, headers=headers)


@pytest.fixture(scope="module")
def cdn(stack: Stack, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cdn]:
    root = tmp_path_factory.mktemp("cdn")
    with (
        own_gateway(stack.settings, root / "gateway.log", media_max_age=timedelta(seconds=LIFETIME)) as origin,
        running_nginx(root, urlsplit(origin.base_url).netloc) as base_url,
        httpx.Client(base_url=base_url, trust_env=False, timeout=30) as media,
        httpx.Client(base_url=stack.base_url, trust_env=False, timeout=60) as api,
    ):
        origin.wait_connected()
        yield Cdn(media, api, origin)


@pytest.fixture(scope="module")
def image(cdn: Cdn) -> dict[str, Any]:
    return cdn.upload(600)


def cache(response: httpx.Response) -> str:
    return response.headers["X-Cache-Status"]


def test_second_request_is_a_cache_hit_with_any_query(cdn: Cdn, image: dict[str, Any]) -> None:
    url = image["variants"][0]["url"]

    first, second = cdn.get(url), cdn.get(url)
    third = cdn.media.get(f"{urlsplit(url).path}?cache=bust")

    assert [cache(each) for each in (first, second, third)] == ["MISS", "HIT", "HIT"]
    assert first.content == second.content == third.content
    assert len(first.content) == image["variants"][0]["size"]
    assert second.headers["Content-Type"] == "image/webp"
    assert second.headers["Cache-Control"] == f"public, max-age={LIFETIME}, immutable"
    assert second.headers["X-Content-Type-Options"] == "nosniff"
    assert cdn.get(url, **{"If-None-Match": second.headers["ETag"]}).status_code == 304
    assert cdn.media.head(urlsplit(url).path).headers["Content-Length"] == str(len(first.content))


def test_a_range_is_served_from_the_cache_and_fills_it(cdn: Cdn, image: dict[str, Any]) -> None:
    url = image["variants"][1]["url"]

    first = cdn.get(url, Range="bytes=10-19")
    whole = cdn.get(url)
    second = cdn.get(url, Range="bytes=-5")

    assert [first.status_code, whole.status_code, second.status_code] == [206, 200, 206]
    assert [cache(first), cache(whole), cache(second)] == ["MISS", "HIT", "HIT"]
    assert first.content == whole.content[10:20]
    assert second.content == whole.content[-5:]


def test_expired_entry_is_revalidated_without_a_new_transfer(cdn: Cdn, image: dict[str, Any]) -> None:
    url = image["variants"][2]["url"]
    assert cdn.get(url).status_code == 200
    time.sleep(LIFETIME + EXPIRY_GRAIN)

    def revalidated() -> str | None:
        status = cache(cdn.get(url))
        return status if status in ("HIT", "REVALIDATED") else None

    # nginx updates the entry in the background: the first client after its expiry gets the old bytes at once.
    assert cache(cdn.get(url)) in ("STALE", "UPDATING", "REVALIDATED")
    assert wait_for(revalidated, 10, "the entry is fresh again")


def test_missing_file_is_requested_again_after_a_second(cdn: Cdn, image: dict[str, Any]) -> None:
    path = urlsplit(image["original"]["url"]).path.replace(image["image_id"][-6:], "000000")

    first = cdn.media.get(path)
    time.sleep(1 + EXPIRY_GRAIN)
    later = cdn.media.get(path)

    assert (first.status_code, later.status_code) == (404, 404)
    assert cache(first) == "MISS"
    assert cache(later) in ("MISS", "EXPIRED", "STALE", "UPDATING")


def test_a_replaced_image_has_a_new_url(cdn: Cdn) -> None:
    before = cdn.upload(90)
    old = cdn.get(before["original"]["url"])
    files = {"image": ("photo.jpg", encode(photo(130, 60), "JPEG"), "image/jpeg")}
    assert cdn.api.put(f"/images/{before['image_id']}", files=files).is_success

    after = cdn.ready(before["image_id"])
    new = cdn.get(after["original"]["url"])

    assert after["original"]["url"] != before["original"]["url"]
    assert (old.status_code, new.status_code) == (200, 200)
    assert cache(new) == "MISS"
    assert new.content == files["image"][1] != old.content


def test_deleted_image_expires_from_the_cache(cdn: Cdn) -> None:
    image = cdn.upload(150)
    url = image["variants"][0]["url"]
    assert cdn.get(url).status_code == 200
    assert cdn.api.delete(f"/images/{image['image_id']}").is_success

    assert wait_for(lambda: cdn.get(url).status_code == 404, LIFETIME + 15, "the CDN forgets a deleted image")


def test_cached_media_is_served_while_the_origin_is_unavailable(cdn: Cdn, image: dict[str, Any]) -> None:
    cached, other = image["variants"][3]["url"], image["original"]["url"]
    content = cdn.get(cached).content
    time.sleep(LIFETIME + EXPIRY_GRAIN)
    cdn.origin.end()
    try:
        stale = [cdn.get(cached) for _ in range(3)]
        assert [each.status_code for each in stale] == [200] * 3
        assert {cache(each) for each in stale} <= {"STALE", "UPDATING"}
        assert all(each.content == content for each in stale)
        assert cdn.get(other).status_code in (502, 504)
    finally:
        cdn.origin.start()
    assert wait_for(lambda: cdn.get(other).status_code == 200, 20, "the origin is asked again")


@pytest.mark.parametrize("path", ["/", "/images", "/images?limit=1", "/metrics", "/readyz", "/media/../images"])
def test_paths_other_than_media_are_404(cdn: Cdn, path: str) -> None:
    assert cdn.media.get(path).status_code == 404


def test_methods_other_than_get_and_head_are_403(cdn: Cdn, image: dict[str, Any]) -> None:
    path = urlsplit(image["original"]["url"]).path
    assert {cdn.media.request(method, path).status_code for method in ("POST", "PUT", "DELETE", "PATCH")} == {403}


def test_manifests_and_tombstones_are_404(cdn: Cdn, image: dict[str, Any]) -> None:
    directory = urlsplit(image["variants"][0]["url"]).path.rpartition("/")[0]
    assert cdn.media.get(f"{directory}/manifest.json").status_code == 404
    assert cdn.media.get(f"/media/tombstones/{image['image_id']}").status_code == 404


@pytest.mark.parametrize("method", ["GET", "PUT", "POST"])
@pytest.mark.parametrize("value", [*UNSIGNED.values(), "streaming-unsigned-payload-trailer"])
def test_requests_with_unsigned_trailers_are_403(cdn: Cdn, image: dict[str, Any], method: str, value: str) -> None:
    for path in (urlsplit(image["original"]["url"]).path, "/media/x", "/imagepipe/images/x", "/"):
        answer = cdn.media.request(method, path, headers={"X-Amz-Content-Sha256": value})
        assert answer.status_code == 403


def test_a_line_break_in_the_path_reaches_the_origin_encoded(cdn: Cdn) -> None:
    answer = cdn.media.get("/media/x%20HTTP/1.1%0d%0aX-Injected:%201%0d%0aX:")
    assert answer.status_code == 404


def test_bucket_is_403_without_the_cdn(stack: Stack, image: dict[str, Any]) -> None:
    bucket = f"{stack.settings.s3_endpoint_url}/{stack.settings.s3_bucket}"
    for url in (bucket, f"{bucket}/{image['original']['path']}", f"{bucket}/{image['variants'][0]['path']}"):
        assert httpx.get(url, trust_env=False).status_code == 403
