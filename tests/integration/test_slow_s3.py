"""A store that hangs or is slow is reported as an outage in time, until it works again."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import suppress
from datetime import timedelta
from pathlib import Path

import pytest

from shared.errors import Unavailable
from shared.s3.store import S3Store
from shared.settings import Settings
from tests.support.api import JPEG, Api, form
from tests.support.engines.stack import Stack
from tests.support.isolation import isolated
from tests.support.processes.gateway import own_gateway
from tests.support.processes.tcp_proxy import Proxy, proxy_to
from tests.support.waiting import Stopwatch, wait_for_async

TIMEOUT = timedelta(seconds=1)
SLACK = 1.5
"""Seconds that a busy machine may add."""
LARGE = bytes(512 * 1024)


@pytest.fixture(scope="module")
def bucket(engines: Settings) -> Iterator[Settings]:
    with isolated(engines, bucket=True) as settings:
        yield settings


@pytest.fixture
def proxy(bucket: Settings) -> Iterator[tuple[Proxy, str]]:
    assert bucket.s3_endpoint_url is not None
    with proxy_to(bucket.s3_endpoint_url) as found:
        yield found


@pytest.fixture
async def store(bucket: Settings, proxy: tuple[Proxy, str]) -> AsyncIterator[S3Store]:
    settings = bucket.model_copy(update={"s3_endpoint_url": proxy[1], "s3_timeout": TIMEOUT})
    found = S3Store.from_settings(settings)
    yield found
    proxy[0].release()
    await found.close()


async def refused_in_time(call: Callable[[], Awaitable[object]]) -> None:
    watch = Stopwatch()
    with pytest.raises(Unavailable, match="s3"):
        await call()
    assert watch.seconds() < TIMEOUT.total_seconds() + SLACK


async def test_a_store_that_hangs_is_unavailable_within_the_timeout(store: S3Store, proxy: tuple[Proxy, str]) -> None:
    await store.put("before", b"1", "text/plain")
    proxy[0].hold()
    # More concurrent calls than threads: those that wait for a thread fail in time, too.
    calls = [lambda: store.get("before"), lambda: store.list(""), lambda: store.put("x", LARGE, "text/plain")] * 7
    await asyncio.gather(*(refused_in_time(call) for call in calls), refused_in_time(store.check))
    proxy[0].release()

    async def available() -> bool:
        with suppress(Unavailable):
            return await store.get("before") == b"1"
        return False

    await wait_for_async(available, 30, "the store is available again")


async def test_a_store_that_drips_is_unavailable_within_the_timeout(store: S3Store, proxy: tuple[Proxy, str]) -> None:
    """Each packet arrives in time, so no time-out of a socket ends the call."""
    await store.put("large", LARGE, "text/plain")
    proxy[0].drip(100_000)
    await refused_in_time(lambda: store.get("large"))


def test_gateway_whose_store_hangs_answers_503_in_time(stack: Stack, tmp_path: Path) -> None:
    assert stack.settings.s3_endpoint_url is not None
    with (
        proxy_to(stack.settings.s3_endpoint_url) as (proxy, url),
        own_gateway(stack.settings, tmp_path / "log", s3_endpoint_url=url, s3_timeout=TIMEOUT) as gateway,
        Api(gateway.base_url) as api,
    ):
        gateway.wait_connected()
        proxy.hold()
        watch = Stopwatch()
        one = api.post("/images?user_id=slow", files=form(("a.jpg", JPEG)))
        many = api.post("/images?user_id=slow", files=form(*((f"{n}.jpg", JPEG) for n in range(12))))
        assert watch.seconds() < 2 * (TIMEOUT.total_seconds() + SLACK)
        for refused in (one, many):
            assert (refused.status_code, refused.json()["code"]) == (503, "unavailable")
            assert int(refused.headers["retry-after"]) >= 1
        assert api.get("/images?user_id=slow").status_code == 200, "requests that need no bucket are served"
        assert [name for name, state in gateway.checks().items() if state != "ok"] == ["s3"]
        proxy.release()
        gateway.wait_connected("s3")
        assert api.upload(user_id="slow")["status"] == "processing"
