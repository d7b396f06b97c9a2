"""`ObjectStore` is one contract: these tests run against the real S3 server and against the store in memory."""

import asyncio
import hashlib
from collections.abc import AsyncIterator, Iterator
from datetime import UTC, datetime, timedelta

import httpx
import pytest
from pydantic import SecretStr

from ops.bucket.listing import pick
from shared.concurrency import for_each
from shared.contract.keys import new_id
from shared.errors import ConfigurationError, NotFound, PreconditionFailed, RequestRefused, Unavailable
from shared.ports import ObjectRange, ObjectStore
from shared.s3.bucket import apply_bucket
from shared.s3.store import S3Store, s3_client
from shared.settings import Settings
from tests.support.isolation import isolated
from tests.support.memory.ports import MemoryStore

DATA = bytes(range(256)) * 2000
"""512,000 bytes: more than one chunk of a stream."""


@pytest.fixture(scope="module")
def bucket(engines: Settings) -> Iterator[Settings]:
    with isolated(engines, bucket=True) as settings:
        yield settings


@pytest.fixture(params=["memory", "s3"])
async def store(request: pytest.FixtureRequest) -> AsyncIterator[ObjectStore]:
    if request.param == "memory":
        yield MemoryStore()
    else:
        found = S3Store.from_settings(request.getfixturevalue("bucket"))
        yield found
        await found.close()


@pytest.fixture
def key() -> str:
    return f"images/{new_id()}/a b+ü.jpg"


async def body_of(found: ObjectRange) -> bytes:
    return b"".join([chunk async for chunk in found.body])


async def test_get_returns_the_bytes_that_were_put(store: ObjectStore, key: str) -> None:
    etag = await store.put(key, DATA, "image/jpeg")
    assert await store.get(key) == DATA
    info = await store.head(key)
    assert (info.key, info.size, info.etag, info.content_type) == (key, len(DATA), etag, "image/jpeg")
    assert abs(info.modified - datetime.now(UTC)) < timedelta(minutes=1)
    assert etag == hashlib.md5(DATA, usedforsecurity=False).hexdigest()


@pytest.mark.parametrize("name", ["100%", "a%2Fb", "#1?x=y&z", "Bild\u202f1", "~'\"*<>|{}^`", "\U0001f5bc"])
async def test_a_key_may_hold_any_printable_character(store: ObjectStore, name: str) -> None:
    """Clients choose the names below `incoming/`."""
    key = f"incoming/{new_id()}/{name}"
    await store.put(key, b"1", "text/plain", if_absent=True)
    assert await store.get(key) == b"1"
    assert [info.key for info in await store.list(key)] == [key]
    assert (await store.head(key)).size == 1


@pytest.mark.parametrize(
    "key", ["", "images/../x", "images/./x", "images//x", "x" * 1025], ids=["empty", "up", "dot", "double", "long"]
)
async def test_invalid_key_is_not_an_outage(store: ObjectStore, key: str) -> None:
    with pytest.raises(RequestRefused):
        await store.get(key)
    with pytest.raises(RequestRefused):
        await store.open(key)
    with pytest.raises(RequestRefused):
        await store.put(key, b"x", "image/png")


async def test_empty_object_is_stored(store: ObjectStore, key: str) -> None:
    await store.put(key, b"", "image/png")
    assert await store.get(key) == b""
    found = await store.open(key)
    assert (await body_of(found), found.info.size) == (b"", 0)


async def test_missing_object_is_not_found(store: ObjectStore, key: str) -> None:
    with pytest.raises(NotFound):
        await store.get(key)
    with pytest.raises(NotFound):
        await store.head(key)
    with pytest.raises(NotFound):
        await store.open(key)
    with pytest.raises(NotFound):
        await store.copy(key, key + "2", "image/png", if_etag="0" * 32)
    assert list(await store.list(key)) == []
    await store.delete([key])


async def test_of_racing_writers_exactly_one_wins(store: ObjectStore, key: str) -> None:
    # A racer that finds SeaweedFS's lock taken tries again after a second. With eight racers, in 3 of 40 races, one
    # waited longer than an attempt of S3_TIMEOUT takes (5 s), so its call failed as Unavailable. Four wait 3 s at most.
    bodies = [b"%d" % number for number in range(4)]
    results = await asyncio.gather(
        *(store.put(key, body, "text/plain", if_absent=True) for body in bodies), return_exceptions=True
    )
    winners = [number for number, result in enumerate(results) if isinstance(result, str)]
    assert len(winners) == 1
    assert all(isinstance(result, PreconditionFailed) for result in results if not isinstance(result, str))
    assert await store.get(key) == bodies[winners[0]]
    # Without the condition the last write wins.
    await store.put(key, b"later", "text/plain")
    assert await store.get(key) == b"later"


@pytest.mark.parametrize(
    ("start", "end", "last"),
    [(0, None, len(DATA) - 1), (0, 0, 0), (10, 19, 19), (300_000, None, len(DATA) - 1), (5, 10**9, len(DATA) - 1)],
)
async def test_ranges_are_inclusive(store: ObjectStore, key: str, start: int, end: int | None, last: int) -> None:
    await store.put(key, DATA, "image/jpeg")
    found = await store.open(key, start, end)
    assert (found.start, found.end) == (start, last)
    assert (found.info.size, found.info.content_type) == (len(DATA), "image/jpeg")
    assert await body_of(found) == DATA[start : last + 1]


async def test_copy_needs_the_expected_etag(store: ObjectStore, key: str) -> None:
    etag = await store.put(key, DATA, "application/octet-stream")
    await store.copy(key, key + ".copy", "image/png", if_etag=etag)
    info = await store.head(key + ".copy")
    assert (info.size, info.content_type) == (len(DATA), "image/png")
    await store.put(key, b"exchanged", "application/octet-stream")
    with pytest.raises(PreconditionFailed):
        await store.copy(key, key + ".other", "image/png", if_etag=etag)
    assert list(await store.list(key + ".other")) == []


async def test_a_listing_begins_after_a_key_and_goes_on_page_by_page(bucket: Settings) -> None:
    store, prefix = S3Store.from_settings(bucket), f"{new_id()}/"
    keys = [f"{prefix}{image}/{part}" for image in "abcd" for part in range(3)]
    await for_each(keys, lambda key: store.put(key, b"", "text/plain"), 8)
    page, token = await store.page(prefix, after=f"{prefix}b", limit=4)
    assert [info.key for info in page] == keys[3:7]
    # `after` is for the first page only.
    page, token = await store.page(prefix, token, after=f"{prefix}d", limit=4)
    assert [info.key for info in page] == keys[7:11]
    page, token = await store.page(prefix, token, limit=4)
    assert ([info.key for info in page], token) == (keys[11:], None)
    assert [info.key async for info in pick(store, prefix, ["a", "c", "x"])] == keys[:3] + keys[6:9]
    await store.close()


async def test_lists_and_deletes_more_than_a_page(store: ObjectStore) -> None:
    prefix = f"images/{new_id()}/"
    keys = [f"{prefix}{number:04}" for number in range(1050)]
    # The time that a call may take includes its wait for a thread.
    await for_each([*keys, f"{prefix[:-1]}-other"], lambda name: store.put(name, b"x", "text/plain"), 32)
    found = await store.list(prefix)
    assert [item.key for item in found] == keys
    assert {item.size for item in found} == {1}
    await store.delete([*keys, prefix + "missing"])
    assert list(await store.list(prefix)) == []
    assert len(await store.list(prefix[:-1])) == 1
    await store.delete([])


async def test_bucket_is_private_and_has_its_lifecycle_rules(bucket: Settings) -> None:
    apply_bucket(bucket)
    client = s3_client(bucket)
    rules = client.get_bucket_lifecycle_configuration(Bucket=bucket.s3_bucket)["Rules"]
    assert {rule["Filter"]["Prefix"]: rule["Expiration"]["Days"] for rule in rules} == {
        "incoming/": 1,
        "tombstones/": 70,
    }
    anonymous = f"{bucket.s3_endpoint_url}/{bucket.s3_bucket}/images/x"
    client.put_object(Bucket=bucket.s3_bucket, Key="images/x", Body=b"x")
    client.close()
    async with httpx.AsyncClient() as http:
        assert (await http.get(anonymous)).status_code == 403


@pytest.mark.parametrize(
    "changes",
    [
        {"s3_bucket": "not-there-at-all"},
        {"s3_access_key_id": "nobody"},
        {"s3_secret_access_key": SecretStr("wrong")},
        {"s3_endpoint_url": "http://127.0.0.1:1"},
    ],
    ids=["bucket", "key", "secret", "endpoint"],
)
async def test_unusable_store_is_unavailable(bucket: Settings, changes: dict[str, object]) -> None:
    """An outage or a wrong setting, never "not found", which would be answered as a lost original."""
    store = S3Store.from_settings(bucket.model_copy(update=changes))
    with pytest.raises(Unavailable, match="s3"):
        await store.get("images/x")
    with pytest.raises(Unavailable, match="s3"):
        await store.check()
    await store.close()


async def test_wrong_keys_are_a_configuration_error_when_provisioning(bucket: Settings) -> None:
    with pytest.raises(ConfigurationError, match=bucket.s3_bucket):
        apply_bucket(bucket.model_copy(update={"s3_secret_access_key": SecretStr("wrong")}))
