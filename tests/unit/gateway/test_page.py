"""The page at `/`: its files, their caching and policy, the setting that turns it off, and GET /status."""

import re
from datetime import UTC, datetime, timedelta

import pytest

from gateway.container import ENGINES
from gateway.web.files import static_files
from gateway.web.policy import content_security_policy
from shared.observability.availability import Availability
from tests.support.memory.gateway import MemoryGateway, memory_settings

MAX_BYTES = 150_000
"""Of all files, with the words of both languages, although a visit loads those of one."""
ASSET = next(iter(static_files().assets))


def asset_url(name: str = ASSET) -> str:
    return f"/web/{static_files().version}/{name}"


async def test_the_page_loads_its_own_files_only() -> None:
    async with MemoryGateway().client() as client:
        page = await client.get("/")
        linked = re.findall(r"""(?:src|href)=["']([^"']+)["']""", page.text)
        answers = [await client.get(f"/{name}") for name in linked]

    assert page.headers["content-type"] == "text/html; charset=utf-8"
    assert linked
    assert {answer.status_code for answer in answers} == {200}
    assert "//" not in page.text
    assert "style=" not in page.text
    assert not re.search(r"<script>|<style>", page.text)


async def test_a_file_is_kept_under_the_url_of_its_version_only() -> None:
    async with MemoryGateway().client() as client:
        current = await client.get(asset_url())
        other = await client.get(f"/web/0123456789abcdef/{ASSET}")
        again = await client.get("/", headers={"If-None-Match": (await client.get("/")).headers["etag"]})
        head = await client.head(asset_url())

    assert current.headers["cache-control"] == "public, max-age=31536000, immutable"
    assert other.headers["cache-control"] == "no-cache"
    assert other.content == current.content
    assert again.status_code == 304
    assert again.content == b""
    assert (head.content, head.headers["content-length"]) == (b"", str(len(current.content)))
    assert "set-cookie" not in current.headers


async def test_the_policy_allows_no_inline_code_and_pictures_of_the_public_url() -> None:
    async with MemoryGateway(
        memory_settings(public_base_url="https://cdn.example.org:8443/images/")
    ).client() as client:
        policy = (await client.get("/")).headers["content-security-policy"]

    assert policy == content_security_policy("https://cdn.example.org:8443/images")
    assert "img-src 'self' blob: https://cdn.example.org:8443" in policy.split("; ")
    assert "default-src 'none'" in policy.split("; ")
    assert "unsafe" not in policy


async def test_the_setting_turns_the_page_off() -> None:
    async with MemoryGateway(memory_settings(page_enabled=False)).client() as client:
        answers = [await client.get(path) for path in ("/", asset_url())]
        status = await client.get("/status")

    assert {(answer.status_code, answer.json()["code"]) for answer in answers} == {(404, "no_such_page")}
    assert status.status_code == 200


@pytest.mark.parametrize("name", ["files.py", "..%2ffiles.py", "index.html", "missing.js"])
async def test_nothing_else_is_served_beside_the_page(name: str) -> None:
    async with MemoryGateway().client() as client:
        answer = await client.get(asset_url(name))

    assert (answer.status_code, answer.json()["code"]) == (404, "no_such_page")


def test_the_page_is_small() -> None:
    found = static_files()
    assert len(found.index.content) + sum(len(file.content) for file in found.assets.values()) < MAX_BYTES


def sentences(language: str) -> dict[str, str]:
    """The words of a language by their keys."""
    module = static_files().assets[f"words_{language}.js"].content.decode()
    found = re.findall(r"^  (\w+): '(.*)',$", module, re.M)
    assert len(found) == len(dict(found)) == module.count("\n  ")
    return dict(found)


def test_both_languages_have_the_same_words_with_the_same_parameters() -> None:
    english, german = sentences("en"), sentences("de")
    assert list(english) == list(german)
    for key, sentence in english.items():
        parameters = [set(re.findall(r"[{[](\w+)", each)) for each in (sentence, german[key])]
        assert parameters[0] == parameters[1], key


def test_every_word_is_used() -> None:
    modules = "".join(file.content.decode() for name, file in static_files().assets.items() if name[:6] != "words_")
    families = ("error", "entry", "state", "part", "advice", "note")
    unused = [key for key in sentences("en") if f"'{key}'" not in modules and key.split("_")[0] not in families]
    assert unused == ["numbers"]


def test_every_module_begins_with_what_it_does() -> None:
    modules = {name: file.content.decode() for name, file in static_files().assets.items() if name.endswith(".js")}
    assert [name for name, text in modules.items() if not re.match(r"// [A-Z][^\n]+\.\n", text)] == []


async def test_status_reports_engines_uploads_and_limits() -> None:
    times = iter(datetime(2026, 11, 26, 12, minute, tzinfo=UTC) for minute in range(60))
    availability = Availability(ENGINES, lambda: next(times))
    gateway = MemoryGateway(memory_settings(max_concurrent_uploads=4))
    gateway.services.availability = availability
    for engine, available in (("kafka", True), ("s3", True), ("kafka", True), ("kafka", False)):
        availability.note(engine, available)
    async with gateway.client() as client:
        with gateway.services.admission.admit("192.0.2.1"):
            answer = await client.get("/status")
    assert answer.headers["cache-control"] == "no-store"
    assert answer.json() == {
        "engines": {
            "kafka": {"available": False, "since": "2026-11-26T12:03:00Z"},
            "s3": {"available": True, "since": "2026-11-26T12:02:00Z"},
            "cassandra": {"available": False, "since": "2026-11-26T12:00:00Z"},
        },
        "uploads": {"in_progress": 1, "free": 3},
        "limits": {
            "content_types": ["image/jpeg", "image/png", "image/webp"],
            "file_bytes": 5 * 1024 * 1024,
            "pixels": 64_000_000,
            "side": 16383,
            "files_per_request": 20,
        },
        "variants": ["full", "large", "medium", "small"],
    }


def test_an_engine_counts_as_unavailable_before_its_first_check() -> None:
    before = datetime.now(UTC)
    state = Availability(ENGINES).states["s3"]
    assert not state.available
    assert state.since - before < timedelta(seconds=10)
