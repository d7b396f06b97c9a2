"""The S3 client: which refusals of a server are outages, and which times it can read."""

import asyncio
import time
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any, cast

import pytest
from aiohttp import web
from botocore.utils import parse_timestamp
from pydantic import SecretStr

from shared.errors import RequestRefused, Unavailable
from shared.s3.objects import ATTEMPTS
from shared.s3.store import S3Store, _just_before, read_time
from tests.support.memory.gateway import memory_settings
from tests.support.waiting import Stopwatch

ERROR = "<?xml version='1.0'?><Error><Code>{code}</Code><Message>no</Message></Error>"


class RefusingServer:
    """Answers every request with this status and error code; by default as a server without room."""

    def __init__(self) -> None:
        self.requests = 0
        self.status = 507
        self.code = "XMinioStorageFull"
        self.body = ERROR

    async def answer(self, request: web.Request) -> web.Response:
        await request.read()
        self.requests += 1
        return web.Response(status=self.status, text=self.body.format(code=self.code), content_type="application/xml")


@pytest.fixture
def server() -> RefusingServer:
    return RefusingServer()


@pytest.fixture
async def store(server: RefusingServer) -> AsyncIterator[S3Store]:
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", server.answer)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    port = runner.addresses[0][1]
    settings = memory_settings(
        s3_endpoint_url=f"http://127.0.0.1:{port}",
        s3_access_key_id="a",
        s3_secret_access_key=SecretStr("b"),
        s3_timeout=timedelta(seconds=5),
    )
    found = S3Store.from_settings(settings)
    yield found
    await found.close()
    await runner.cleanup()


@pytest.mark.parametrize(
    ("status", "code"),
    [(507, "XMinioStorageFull"), (503, "SlowDown"), (400, "QuotaExceeded"), (500, "InternalError")],
)
@pytest.mark.parametrize("if_absent", [True, False])
async def test_store_without_room_is_an_outage(
    store: S3Store, server: RefusingServer, status: int, code: str, if_absent: bool
) -> None:
    server.status, server.code = status, code
    with pytest.raises(Unavailable, match=code):
        await store.put("images/x", b"data", "image/png", if_absent=if_absent)
    assert server.requests <= ATTEMPTS


@pytest.mark.parametrize("code", ["KeyTooLongError", "XMinioInvalidResourceName", "InvalidURI"])
async def test_invalid_key_is_a_refused_request(store: S3Store, server: RefusingServer, code: str) -> None:
    server.status, server.code = 400, code
    with pytest.raises(RequestRefused, match=code):
        await store.get("images/x")
    assert server.requests == 1


@pytest.mark.parametrize("key", ["", "images/../x", "images/./x", ".", "x" * 1025, "ü" * 513])
async def test_a_key_that_no_object_can_have_is_not_even_asked_for(
    store: S3Store, server: RefusingServer, key: str
) -> None:
    """SeaweedFS answers with codes that may mean anything, or that there is no such object."""
    with pytest.raises(RequestRefused):
        await store.get(key)
    with pytest.raises(RequestRefused):
        await store.put(key, b"", "image/png")
    assert server.requests == 0


async def test_a_refusal_without_a_code_is_an_outage(store: S3Store, server: RefusingServer) -> None:
    server.status, server.body = 400, "no XML"
    with pytest.raises(Unavailable, match="400"):
        await store.get("images/x")


@pytest.mark.parametrize(
    ("status", "code"),
    [(400, "RequestTimeout"), (400, "ExpiredToken"), (403, "RequestTimeTooSkewed"), (400, "InvalidRequest")],
)
async def test_temporary_or_general_error_is_an_outage(
    store: S3Store, server: RefusingServer, status: int, code: str
) -> None:
    server.status, server.code = status, code
    with pytest.raises(Unavailable, match=code):
        await store.get("images/x")


@pytest.mark.parametrize(
    "text",
    [
        "2026-11-22T13:50:50.123Z",
        "2026-11-22T13:50:50Z",
        "Sun, 22 Nov 2026 13:50:50 GMT",
        "Sunday, 06-Nov-94 08:49:37 GMT",
        "1700000000",
        1700000000.5,
        "2026-11-22T13:50:50+02:00",
    ],
)
def test_read_time_equals_botocore_for_every_form(text: Any) -> None:
    assert read_time(text) == parse_timestamp(text)
    assert read_time(text).tzinfo is not None


def test_read_time_refuses_other_text() -> None:
    with pytest.raises(ValueError, match="Invalid timestamp"):
        read_time("yesterdayZ")


@pytest.mark.parametrize(
    ("key", "before", "after"),
    [("p/b", ["p/a", "p/a~", "p/a/x"], ["p/b", "p/b-1", "p/b/1"]), ("p/0", ["p/"], ["p/0", "p/0/1"])],
)
def test_a_listing_begins_before_its_key_and_after_that_ones_neighbour(
    key: str, before: list[str], after: list[str]
) -> None:
    found = _just_before(key)
    assert all(name < found for name in before)
    assert all(name > found for name in after)


@pytest.mark.parametrize("key", ["p/", "p/ü", "p/ "])
def test_a_key_without_a_plain_last_character_is_sent_as_it_is(key: str) -> None:
    assert _just_before(key) == key


class SlowClient:
    """A boto3 client whose pages of a listing, of one object each, take a third of a second."""

    def __init__(self, pages: int) -> None:
        self._pages = pages

    def list_objects_v2(self, *, ContinuationToken: str = "0", **_rest: Any) -> dict[str, Any]:  # noqa: N803
        time.sleep(0.33)
        number = int(ContinuationToken)
        info = {"Key": f"{number}", "Size": 1, "ETag": '""', "LastModified": datetime(2026, 1, 1, tzinfo=UTC)}
        return {"Contents": [info], **({"NextContinuationToken": f"{number + 1}"} if number + 1 < self._pages else {})}

    def close(self) -> None:
        return None


async def test_listing_has_a_time_out_for_each_page_and_none_for_the_whole() -> None:
    store = S3Store(
        cast(Any, SlowClient(pages=5)), cast(Any, None), "bucket", threads=1, timeout=timedelta(seconds=1.2)
    )
    assert [info.key for info in await store.list("")] == ["0", "1", "2", "3", "4"]
    await store.close()


async def test_the_time_out_does_not_count_the_wait_for_a_thread() -> None:
    store = S3Store(
        cast(Any, SlowClient(pages=1)), cast(Any, None), "bucket", threads=1, timeout=timedelta(seconds=1.2)
    )
    found = await asyncio.gather(*(store.list("") for _ in range(6)))
    assert [len(page) for page in found] == [1] * 6
    await store.close()


class HangingClient:
    """A boto3 client whose second call hangs for two seconds."""

    def __init__(self) -> None:
        self._calls = 0

    def list_objects_v2(self, **_request: Any) -> dict[str, Any]:
        self._calls += 1
        time.sleep(2 if self._calls == 2 else 0)
        return {}

    def close(self) -> None:
        return None


async def test_calls_that_wait_for_a_thread_fail_in_time_if_the_store_hangs() -> None:
    store = S3Store(cast(Any, HangingClient()), cast(Any, None), "bucket", threads=1, timeout=timedelta(seconds=0.5))
    await store.check()
    watch = Stopwatch()
    found = await asyncio.gather(*(store.check() for _ in range(5)), return_exceptions=True)
    assert [type(error) for error in found] == [Unavailable] * 5
    assert watch.seconds() < 1.5
    # The thread is busy until its call ends, and is not lost.
    await asyncio.sleep(2)
    await store.check()
    await store.close()


async def test_a_cancelled_call_loses_no_thread() -> None:
    store = S3Store(cast(Any, SlowClient(pages=1)), cast(Any, None), "bucket", threads=1, timeout=timedelta(seconds=5))
    running, waiting, last = (asyncio.create_task(store.list("")) for _ in range(3))
    await asyncio.sleep(0.1)
    running.cancel()
    waiting.cancel()
    assert len(await last) == 1
    assert len(await store.list("")) == 1
    await store.close()
