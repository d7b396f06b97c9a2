"""The CDN's origin on a running stack: a private bucket, conditional requests and ranges against the real store."""

import secrets
from typing import Any
from urllib.parse import quote

import httpx
import pytest

from tests.support.api import JPEG, PNG, Api
from tests.support.engines.stack import Stack
from tests.support.images import encode, photo

LARGE = encode(photo(1400, 1000), "PNG")
"""Several times the size of a chunk."""


@pytest.fixture(scope="module")
def ready(api: Api) -> dict[str, Any]:
    return api.settled(api.upload(LARGE, "Dünen & so.png", user_id=secrets.token_hex(8))["image_id"])


def test_the_bucket_itself_is_closed_to_the_public(stack: Stack, ready: dict[str, Any]) -> None:
    settings = stack.settings
    base = f"{settings.s3_endpoint_url}/{settings.s3_bucket}"
    for path in (ready["original"]["path"], ready["variants"][0]["path"], "", "?list-type=2"):
        assert httpx.get(f"{base}/{path}").status_code == 403


def test_media_is_streamed_whole_with_its_headers(api: Api, ready: dict[str, Any]) -> None:
    answer = api.get(ready["original"]["url"])
    assert answer.content == LARGE
    assert answer.headers["Content-Length"] == str(len(LARGE))
    assert answer.headers["Content-Type"] == "image/png"
    assert answer.headers["Cache-Control"] == "public, max-age=86400, immutable"
    assert answer.headers["X-Content-Type-Options"] == "nosniff"
    assert answer.headers["Content-Security-Policy"] == "sandbox; default-src 'none'"
    assert answer.headers["Content-Disposition"].endswith("filename*=UTF-8''" + quote("Dünen & so.png", safe=""))


def test_head_has_the_same_headers_without_the_bytes(api: Api, ready: dict[str, Any]) -> None:
    url = ready["variants"][0]["url"]
    whole, head = api.get(url), api.head(url)
    assert (head.status_code, head.content) == (200, b"")
    for name in ("Content-Length", "Content-Type", "ETag", "Last-Modified", "Cache-Control", "Content-Disposition"):
        assert head.headers[name] == whole.headers[name]


@pytest.mark.parametrize(
    ("span", "start", "stop"),
    [("0-0", 0, 1), ("100-299999", 100, 300_000), ("5-", 5, None), ("-9", -9, None), ("0-99999999", 0, None)],
)
def test_ranges_are_served(api: Api, ready: dict[str, Any], span: str, start: int, stop: int | None) -> None:
    answer = api.get(ready["original"]["url"], headers={"Range": f"bytes={span}"})
    assert (answer.status_code, answer.content) == (206, LARGE[start:stop])
    first = start % len(LARGE)
    assert answer.headers["Content-Range"] == f"bytes {first}-{first + len(answer.content) - 1}/{len(LARGE)}"


def test_range_beyond_the_end_is_416_and_several_ranges_get_the_file(api: Api, ready: dict[str, Any]) -> None:
    beyond = api.get(ready["original"]["url"], headers={"Range": f"bytes={len(LARGE)}-"})
    assert (beyond.status_code, beyond.headers["Content-Range"]) == (416, f"bytes */{len(LARGE)}")
    several = api.get(ready["original"]["url"], headers={"Range": "bytes=0-1,5-6"})
    assert (several.status_code, several.content) == (200, LARGE)


def test_download_resumes_only_the_same_file(api: Api, ready: dict[str, Any]) -> None:
    url = ready["original"]["url"]
    first = api.get(url)
    for validator in (first.headers["ETag"], first.headers["Last-Modified"]):
        resumed = api.get(url, headers={"Range": "bytes=10-", "If-Range": validator})
        assert (resumed.status_code, resumed.content) == (206, LARGE[10:])
    changed = api.get(url, headers={"Range": "bytes=10-", "If-Range": '"another"'})
    assert (changed.status_code, changed.content) == (200, LARGE)


def test_unchanged_media_is_304(api: Api, ready: dict[str, Any]) -> None:
    url = ready["original"]["url"]
    first = api.get(url)
    for condition in (
        {"If-None-Match": first.headers["ETag"]},
        {"If-None-Match": f'"x", W/{first.headers["ETag"]}'},
        {"If-Modified-Since": first.headers["Last-Modified"]},
    ):
        same = api.get(url, headers=condition)
        assert (same.status_code, same.content, same.headers["ETag"]) == (304, b"", first.headers["ETag"])


def test_nothing_but_originals_and_variants_is_served(api: Api, ready: dict[str, Any]) -> None:
    variant = ready["variants"][0]["path"]
    for path in (
        variant.rpartition("/")[0] + "/manifest.json",
        f"tombstones/{ready['image_id']}",
        f"incoming/{'0' * 64}/a.png",
        variant.rpartition("/")[0] + "/",
        f"{variant}/../manifest.json".replace("../", "%2E%2E%2F"),
        variant.replace(".webp", ".json"),
        "%00",
    ):
        answer = api.get(f"/media/{path}")
        assert (answer.status_code, answer.json()["code"]) == (404, "no_such_media")


@pytest.mark.parametrize(
    "name",
    ["../../etc/passwd", 'a"; filename="b.exe', "a\r\nSet-Cookie: x=1", "<script>.svg", "\u202egpj.exe", "x" * 400],
)
def test_hostile_file_names_are_encoded_in_the_header(api: Api, name: str) -> None:
    found = api.upload(JPEG, name)
    answer = api.get(found["original"]["url"])
    disposition = answer.headers["Content-Disposition"]
    assert answer.content == JPEG
    assert "Set-Cookie" not in answer.headers
    assert disposition.startswith("inline; ")
    assert disposition.isascii()
    assert disposition.endswith((".jpg", ".jpeg"))
    assert not {"/", "\\", "<"} & set(disposition.partition("filename*")[0])


def test_a_replaced_image_keeps_its_old_urls_until_the_sweep(api: Api) -> None:
    old = api.settled(api.upload(PNG, "old.png")["image_id"])
    new = api.put(f"/images/{old['image_id']}", files={"image": ("new.jpg", JPEG)}, headers={"Prefer": "wait=30"})
    assert new.json()["status"] == "ready"
    assert api.get(old["original"]["url"]).content == PNG
    assert api.get(new.json()["original"]["url"]).content == JPEG
