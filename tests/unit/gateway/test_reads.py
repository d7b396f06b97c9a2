"""The read routes over engines in memory: what is served when, and that one's own writes are seen at once."""

import functools
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from datetime import timedelta
from typing import Any
from uuid import UUID

import httpx
import pytest

from gateway.reading.anchors import Anchors
from shared.contract.events import Current, Variant
from shared.contract.keys import answer_version, command_version, manifest_key, new_id, tombstone_key, variant_key
from shared.contract.ladder import Ladder
from shared.errors import RequestRefused, Unavailable
from shared.read_model.tables import BY_DAY, BY_OWNER, IMAGES, Delete, Outcome, Update
from tests.support import records
from tests.support.images import encode, photo
from tests.support.memory.gateway import BASE_URL, MemoryGateway, memory_settings

PNG = encode(photo(40, 30), "PNG")
JPEG = encode(photo(64, 48), "JPEG")
UNKNOWN = UUID("01a202b6-de8b-7263-bb6d-eec9c6bdacf8")
WEBP = b"RIFF....WEBP, as far as these tests care"


class Scene:
    """A gateway with a client, and what the processor and the indexer would do."""

    def __init__(self, gateway: MemoryGateway, client: httpx.AsyncClient) -> None:
        self.gateway = gateway
        self.client = client

    async def get(self, path: str, **headers: str) -> httpx.Response:
        return await self.client.get(path, headers={name.replace("_", "-"): value for name, value in headers.items()})

    async def fresh(self, path: str) -> httpx.Response:
        return await self.get(path, Cache_Control="no-cache")

    async def upload(self, data: bytes = PNG, name: str = "cat.png", **owner: str) -> dict[str, Any]:
        answer = await self.client.post("/images", params=owner, files={"image": (name, data)})
        assert answer.status_code == 202, answer.text
        document: dict[str, Any] = answer.json()
        return document

    async def replace(self, image_id: str, data: bytes, name: str) -> None:
        answer = await self.client.put(f"/images/{image_id}", files={"image": (name, data)})
        assert answer.status_code == 202, answer.text

    async def ready(self, image_id: str) -> Current:
        """Store the variants of the latest revision and write its answer's columns."""
        row = await self.gateway.index.image(UUID(image_id))
        assert row is not None
        assert row.request is not None
        request = row.request
        variants = []
        for name in Ladder().names:
            path = variant_key(row.image_id, request.revision, Ladder().digest, name)
            await self.gateway.store.put(path, WEBP + name.encode(), "image/webp")
            variants.append(
                Variant(
                    name=name,
                    path=path,
                    url=f"{BASE_URL}/media/{path}",
                    content_type="image/webp",
                    width=20,
                    height=15,
                    size=len(WEBP) + len(name),
                    sha256="ab" * 32,
                )
            )
        current = records.current(
            row.image_id, request.revision, request.revision_version, Ladder().digest,
            original=request.model_dump(exclude={"revision", "revision_version"}), variants=tuple(variants),
        )  # fmt: skip
        await self.write_answer(image_id, {"current": current, "outcome": Outcome(request.revision, "ready")})
        return current

    async def failed(self, image_id: str) -> None:
        row = await self.gateway.index.image(UUID(image_id))
        assert row is not None
        assert row.request is not None
        await self.write_answer(
            image_id, {"outcome": Outcome(row.request.revision, "failed", "truncated", "It ends early.")}
        )

    async def write_answer(self, image_id: str, columns: dict[str, Any]) -> None:
        version = answer_version(command_version(1, len(self.gateway.log.commands) - 1))
        for table, keys in self._places(image_id):
            await self.gateway.index.apply([Update(table, keys, columns, version)])

    async def gone(self, image_id: str) -> None:
        """Another gateway deletes the image."""
        for table, keys in self._places(image_id):
            await self.gateway.index.apply([Delete(table, keys, command_version(1, 1_000_000))])

    def _places(self, image_id: str) -> list[tuple[str, dict[str, Any]]]:
        names = {IMAGES: ("image_id",), BY_OWNER: ("owner_type", "owner_id", "image_id"),
                 BY_DAY: ("day", "shard", "image_id")}  # fmt: skip
        return [
            (table, dict(zip(names[table], key, strict=True)))
            for table in names
            for key in self.gateway.index.table(table)
            if key[-1] == UUID(image_id)
        ]


@asynccontextmanager
async def scene(**changes: Any) -> AsyncIterator[Scene]:
    gateway = MemoryGateway(settings=memory_settings(**changes))
    async with gateway.client() as client:
        yield Scene(gateway, client)


def ids(answer: httpx.Response) -> list[str]:
    assert answer.status_code == 200, answer.text
    return [item["image_id"] for item in answer.json()]


# Lists


async def test_an_upload_is_listed_at_once_newest_first() -> None:
    async with scene() as s:
        assert ids(await s.get("/images")) == []
        assert ids(await s.get("/images?user_id=1")) == []
        first = await s.upload(user_id="1")
        assert ids(await s.get("/images")) == [first["image_id"]]
        second = await s.upload(user_id="2")
        assert ids(await s.get("/images")) == [second["image_id"], first["image_id"]]
        assert ids(await s.get("/images?user_id=1")) == [first["image_id"]]
        assert ids(await s.get("/images?owner_type=user&owner_id=2")) == [second["image_id"]]
        assert ids(await s.get("/images?user_id=3")) == []
        item = (await s.get("/images")).json()[1]
        assert (item["file_name"], item["size"], item["status"]) == ("cat.png", len(PNG), "processing")
        assert item["original"]["url"].startswith(f"{BASE_URL}/media/images/")


async def test_a_deletion_is_seen_at_once() -> None:
    async with scene() as s:
        first, second = await s.upload(user_id="1"), await s.upload(user_id="1")
        assert len(ids(await s.get("/images?user_id=1"))) == 2
        await s.client.delete(f"/images/{first['image_id']}")
        assert ids(await s.get("/images?user_id=1")) == ids(await s.get("/images")) == [second["image_id"]]
        for path in (f"/images/{first['image_id']}", f"/images/{first['image_id']}/metadata"):
            assert (await s.get(path)).json()["code"] == "not_found"
        assert (await s.get("/media/" + first["original"]["path"])).json()["code"] == "no_such_media"


async def test_links_lead_through_the_whole_list() -> None:
    async with scene() as s:
        uploads = [(await s.upload(user_id="ü/&="))["image_id"] for _ in range(7)]
        await s.upload(user_id="2")
        found: list[str] = []
        url = "/images?limit=3&user_id=%C3%BC%2F%26%3D"
        for _ in range(3):
            answer = await s.get(url)
            found += ids(answer)
            url = answer.links.get("next", {}).get("url", "")
        assert url == ""
        assert found == uploads[::-1]
        assert ids(await s.get("/images?limit=2&offset=3&user_id=%C3%BC%2F%26%3D")) == uploads[::-1][3:5]
        assert ids(await s.get("/images?offset=999")) == []


async def test_a_list_names_the_stream_that_continues_it() -> None:
    async with scene() as s:
        positions = iter(["before", "later", "never"])
        vars(s.gateway.services)["indexed"] = lambda: next(positions)
        await s.upload(user_id="1")
        for _ in range(2):
            # The position is cached with the page: a later one would leave out events that the page does not show.
            answer = await s.get("/images?user_id=1")
            assert (
                answer.links["monitor"]["url"] == f"{BASE_URL}/events?owner_type=user&owner_id=1&last_event_id=before"
            )
        every = await s.get("/images?limit=500")
        assert every.links["monitor"]["url"] == f"{BASE_URL}/events?last_event_id=later"
        assert "next" not in every.links


async def test_a_document_names_the_stream_that_continues_it() -> None:
    async with scene() as s:
        positions = iter(["before", "later"])
        vars(s.gateway.services)["indexed"] = lambda: next(positions)
        url = f"/images/{(await s.upload())['image_id']}"
        for position, headers in (("before", {}), ("before", {}), ("later", {"Cache_Control": "no-cache"})):
            answer = await s.get(f"{url}/metadata", **headers)
            assert answer.links["monitor"]["url"] == f"{BASE_URL}{url}/events?last_event_id={position}"


async def test_without_kafka_there_are_lists_without_streams() -> None:
    async with scene() as s:
        await s.upload()
        answer = await s.get("/images")
        assert ids(answer)
        assert "link" not in answer.headers


async def test_a_cursor_of_another_list_is_refused() -> None:
    async with scene() as s:
        for _ in range(2):
            await s.upload(user_id="1")
        url = (await s.get("/images?limit=1&user_id=1")).links["next"]["url"]
        assert url.startswith(BASE_URL)
        answer = await s.get(url.replace("owner_id=1", "owner_id=2"))
        assert (answer.status_code, answer.json()["code"]) == (400, "invalid_cursor")


async def test_an_unchanged_list_is_not_sent_again() -> None:
    async with scene() as s:
        await s.upload()
        etag = (await s.get("/images")).headers["ETag"]
        again = await s.get("/images", If_None_Match=etag)
        assert (again.status_code, again.content, again.headers["ETag"]) == (304, b"", etag)
        await s.upload()
        assert (await s.get("/images", If_None_Match=etag)).status_code == 200


async def test_writes_of_others_show_after_the_ttl_or_with_no_cache() -> None:
    async with scene(list_cache_ttl=timedelta(hours=1)) as s:
        first = (await s.upload())["image_id"]
        assert ids(await s.get("/images")) == [first]
        await s.gone(first)
        assert ids(await s.get("/images")) == [first]
        assert ids(await s.fresh("/images")) == []
        assert ids(await s.get("/images")) == []


async def test_a_deep_offset_is_exact_for_own_writes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gateway.reading.lists.STEP", 4)
    monkeypatch.setattr("gateway.reading.lists.Anchors", functools.partial(Anchors, step=4))
    async with scene() as s:
        uploads = [(await s.upload(user_id="1"))["image_id"] for _ in range(14)][::-1]
        assert ids(await s.get("/images?limit=2&offset=9")) == uploads[9:11]
        await s.client.delete(f"/images/{uploads.pop(2)}")
        uploads.insert(0, (await s.upload(user_id="1"))["image_id"])
        uploads.insert(0, (await s.upload(user_id="1"))["image_id"])
        for query in ("limit=2&offset=9", "limit=2&offset=9&user_id=1", "limit=5&offset=10"):
            limit, offset = int(query[6]), int(query.partition("offset=")[2].partition("&")[0])
            assert ids(await s.get(f"/images?{query}")) == uploads[offset : offset + limit]


# One image


async def test_a_processing_image_answers_with_its_original() -> None:
    async with scene() as s:
        image = await s.upload()
        answer = await s.get(f"/images/{image['image_id']}")
        assert (answer.content, answer.headers["Content-Type"]) == (PNG, "image/png")
        assert answer.headers["Cache-Control"] == "no-cache"
        variant = await s.get(f"/images/{image['image_id']}?variant=small")
        assert (variant.status_code, variant.json()["code"]) == (404, "variant_not_ready")
        assert variant.headers["Retry-After"] == "1"
        for name in ("huge", "", "original"):
            unknown = await s.get(f"/images/{image['image_id']}?variant={name}")
            assert (unknown.status_code, unknown.json()["code"]) == (404, "no_such_variant")


async def test_a_ready_image_answers_with_each_variant() -> None:
    async with scene() as s:
        image = await s.upload()
        await s.ready(image["image_id"])
        for name in Ladder().names:
            answer = await s.fresh(f"/images/{image['image_id']}?variant={name}")
            assert (answer.content, answer.headers["Content-Type"]) == (WEBP + name.encode(), "image/webp")
            assert f"cat-{name}.webp" in answer.headers["Content-Disposition"]
        assert (await s.get(f"/images/{image['image_id']}?variant=huge")).json()["code"] == "no_such_variant"
        assert (await s.get(f"/images/{image['image_id']}")).content == PNG


async def test_a_failed_image_answers_with_its_original_and_says_why() -> None:
    async with scene() as s:
        image = await s.upload()
        await s.failed(image["image_id"])
        assert (await s.fresh(f"/images/{image['image_id']}")).content == PNG
        problem = (await s.get(f"/images/{image['image_id']}?variant=full")).json()
        assert (problem["status"], problem["code"]) == (404, "render_failed")
        assert problem["error"] == {"type": "truncated", "detail": "It ends early."}
        assert (await s.get(f"/images/{image['image_id']}?variant=huge")).json()["code"] == "no_such_variant"


async def test_during_a_replacement_the_previous_revision_answers() -> None:
    async with scene() as s:
        image = await s.upload()
        image_id = image["image_id"]
        await s.ready(image_id)
        await s.replace(image_id, JPEG, "dog.jpg")
        assert (await s.get(f"/images/{image_id}")).content == PNG
        assert (await s.get(f"/images/{image_id}?variant=full")).content == WEBP + b"full"
        found = (await s.get(f"/images/{image_id}/metadata")).json()
        assert (found["status"], found["file_name"], found["pending"]["file_name"]) == (
            "processing",
            "cat.png",
            "dog.jpg",
        )
        await s.ready(image_id)
        assert (await s.fresh(f"/images/{image_id}")).content == JPEG
        assert (await s.get(f"/images/{image_id}/metadata")).json()["pending"] is None


@pytest.mark.parametrize("image_id", [str(UNKNOWN), "x", "0", UNKNOWN.hex, f"{{{UNKNOWN}}}"])
async def test_an_unknown_id_is_not_found(image_id: str) -> None:
    async with scene() as s:
        for path in (f"/images/{image_id}", f"/images/{image_id}/metadata", f"/images/{image_id}?variant=full"):
            answer = await s.get(path)
            assert (answer.status_code, answer.json()["code"]) == (404, "not_found")


async def test_an_unchanged_document_is_not_sent_again() -> None:
    async with scene() as s:
        image = await s.upload()
        path = f"/images/{image['image_id']}/metadata"
        first = await s.get(path)
        assert first.json() == image
        assert (await s.get(path, If_None_Match=first.headers["ETag"])).status_code == 304
        await s.ready(image["image_id"])
        later = await s.get(path, If_None_Match=first.headers["ETag"], Cache_Control="no-cache")
        assert (later.status_code, later.json()["status"]) == (200, "ready")


async def test_a_stale_row_does_not_hide_new_bytes() -> None:
    async with scene(list_cache_ttl=timedelta(hours=1)) as s:
        image = await s.upload()
        image_id = image["image_id"]
        await s.get(f"/images/{image_id}")
        # Another gateway replaced the image, the old revision is swept, and this one's cache knows nothing of it.
        replaced = records.current(UUID(image_id), new_id(), 99, Ladder().digest)
        await s.write_answer(image_id, {"current": replaced})
        await s.gateway.store.delete([image["original"]["path"]])
        await s.gateway.store.put(replaced.original.path, JPEG, "image/jpeg")
        assert (await s.get(f"/images/{image_id}")).content == JPEG


async def test_deleted_bytes_are_not_found() -> None:
    async with scene() as s:
        image = await s.upload()
        await s.gateway.store.delete([image["original"]["path"]])
        assert (await s.get(f"/images/{image['image_id']}")).json()["code"] == "not_found"


# Media


async def test_media_is_cacheable_and_harmless() -> None:
    async with scene() as s:
        image = await s.upload(name='x"; <b>.html')
        answer = await s.get("/media/" + image["original"]["path"])
        assert answer.content == PNG
        headers = answer.headers
        assert headers["Cache-Control"] == "public, max-age=86400, immutable"
        assert headers["X-Content-Type-Options"] == "nosniff"
        assert headers["Content-Security-Policy"] == "sandbox; default-src 'none'"
        assert headers["Access-Control-Allow-Origin"] == "*"
        assert headers["Content-Disposition"].startswith('inline; filename="x__ _b_.html.png"')
        assert headers["Content-Length"] == str(len(PNG))
        assert not headers["ETag"].startswith("W/")


async def test_media_in_parts_and_by_condition() -> None:
    async with scene() as s:
        path = "/media/" + (await s.upload())["original"]["path"]
        whole = await s.get(path)
        part = await s.get(path, Range="bytes=10-19")
        assert (part.status_code, part.content) == (206, PNG[10:20])
        assert part.headers["Content-Range"] == f"bytes 10-19/{len(PNG)}"
        assert part.headers["Content-Length"] == "10"
        assert (await s.get(path, Range="bytes=-7")).content == PNG[-7:]
        several = await s.get(path, Range="bytes=0-1,4-5")
        assert (several.status_code, several.content) == (200, PNG)
        beyond = await s.get(path, Range="bytes=999999-")
        assert (beyond.status_code, beyond.json()["code"]) == (416, "range_not_satisfiable")
        assert beyond.headers["Content-Range"] == f"bytes */{len(PNG)}"
        for condition in (
            {"If_None_Match": whole.headers["ETag"]},
            {"If_Modified_Since": whole.headers["Last-Modified"]},
        ):
            same = await s.get(path, **condition)
            assert (same.status_code, same.content) == (304, b"")
            assert same.headers["Cache-Control"] == whole.headers["Cache-Control"]
        head = await s.client.head(path)
        assert (head.status_code, head.content) == (200, b"")
        assert head.headers["Content-Length"] == str(len(PNG))


async def test_media_of_variants_and_of_an_older_revision() -> None:
    async with scene() as s:
        image = await s.upload()
        old = await s.ready(image["image_id"])
        await s.replace(image["image_id"], JPEG, "dog.jpg")
        await s.ready(image["image_id"])
        for path in (old.original.path, old.variants[0].path):
            answer = await s.fresh(f"/media/{path}")
            assert answer.status_code == 200
            assert path.rpartition("/")[2] in answer.headers["Content-Disposition"]
        await s.gateway.store.delete([old.original.path])
        assert (await s.get(f"/media/{old.original.path}")).status_code == 404


async def test_media_serves_nothing_but_originals_and_variants() -> None:
    async with scene() as s:
        image = await s.upload()
        image_id, revision = UUID(image["image_id"]), UUID(image["original"]["path"].split("/")[2])
        hidden = [
            manifest_key(image_id, revision, Ladder().digest),
            tombstone_key(image_id),
            "incoming/" + "0" * 64 + "/cat.png",
            f"images/{image_id}/{revision}/",
            f"images/{image_id}/{revision}/original.png/",
            f"images/{image_id}/{revision}/original.html",
            f"images/{image_id}/{revision}/../{revision}/original.png",
            f"images/{image_id}/{revision}/%2e%2e/{revision}/original.png",
            f"IMAGES/{image_id}/{revision}/original.png",
            "",
            "\x00",
        ]
        for key in hidden:
            # Some are keys that no object can have.
            with suppress(RequestRefused):
                await s.gateway.store.put(key, b"secret", "text/plain")
            answer = await s.get("/media/" + key.replace("\x00", "%00").replace("../", "%2E%2E%2F"))
            assert answer.status_code == 404, key
            assert b"secret" not in answer.content
        unknown = await s.get(f"/media/images/{new_id()}/{revision}/original.png")
        assert unknown.json()["code"] == "no_such_media"
        assert unknown.headers["Cache-Control"] == "public, max-age=1"


async def test_originals_can_be_kept_from_the_public() -> None:
    async with scene(public_originals=False) as s:
        image = await s.upload()
        original = f"/media/{image['original']['path']}"
        assert (await s.get(f"/images/{image['image_id']}")).json()["code"] == "variant_not_ready"
        assert (await s.get(original)).json()["code"] == "no_such_media"
        current = await s.ready(image["image_id"])
        assert (await s.fresh(f"/images/{image['image_id']}")).content == WEBP + b"full"
        assert (await s.get(f"/media/{current.variants[0].path}")).status_code == 200
        assert (await s.get(original)).status_code == 404


async def test_an_unavailable_index_is_503_without_its_address(monkeypatch: pytest.MonkeyPatch) -> None:
    async def unavailable(*_: Any, **__: Any) -> None:
        raise Unavailable("cassandra", "10.0.0.7 refused")

    async with scene() as s:
        image = await s.upload()
        for name in ("image", "ids", "of_owner", "days"):
            monkeypatch.setattr(s.gateway.index, name, unavailable)
        for path in (
            "/images",
            "/images?user_id=1",
            f"/images/{image['image_id']}",
            f"/media/{image['original']['path']}",
        ):
            answer = await s.get(path)
            assert (answer.status_code, answer.json()["code"]) == (503, "unavailable")
            assert "Retry-After" in answer.headers
            assert "10.0.0.7" not in answer.text


async def test_an_unexpected_error_of_a_read_is_a_problem_document(monkeypatch: pytest.MonkeyPatch) -> None:
    async def fail(*_: Any, **__: Any) -> None:
        raise ValueError("secret")

    async with scene() as s:
        monkeypatch.setattr(s.gateway.index, "image", fail)
        answer = await s.get(f"/images/{UNKNOWN}/metadata", X_Request_ID="r-1")
    assert (answer.status_code, answer.json()["code"]) == (500, "internal")
    assert answer.headers["X-Request-ID"] == "r-1"
    assert "secret" not in answer.text


async def test_responses_from_the_cache_share_their_document_but_no_header_of_a_request() -> None:
    async with scene() as s:
        image = await s.upload()
        for path in ("/images", f"/images/{image['image_id']}/metadata"):
            first = await s.get(path, X_Request_ID="r-1")
            second = await s.get(path, X_Request_ID="r-2")
            head = await s.client.head(path, headers={"X-Request-ID": "r-3"})
            unchanged = await s.get(path, X_Request_ID="r-4", If_None_Match=f'"other", W/{first.headers["ETag"]}')
            assert (second.content, head.content, unchanged.content) == (first.content, b"", b"")
            assert [each.status_code for each in (first, second, head, unchanged)] == [200, 200, 200, 304]
            described = {"content-type": "application/json", "content-length": str(len(first.content))}
            kept = {name: first.headers[name] for name in ("etag", "cache-control")}
            for number, answer in enumerate((first, second, head, unchanged), 1):
                own = {"x-request-id": f"r-{number}", "x-content-type-options": "nosniff"}
                own |= described if answer is not unchanged else {}
                assert sorted(answer.headers.multi_items()) == sorted((own | kept).items())
