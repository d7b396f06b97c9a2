"""The internal port: readiness, liveness and metrics of a service."""

import asyncio
import itertools
import subprocess
import sys
from collections.abc import AsyncIterator
from datetime import timedelta
from types import SimpleNamespace
from typing import Any

import httpx
import pytest
import structlog

from shared.observability import health, metrics
from shared.observability.health import InternalServer, Progress
from tests.support.clock import Clock
from tests.support.metric_samples import sample
from tests.support.waiting import wait_for_async


class Service:
    """The checks of a server under test."""

    def __init__(self) -> None:
        self.error: Exception | None = None
        self.reason: str | None = None
        self.hangs = False
        self.looks = 0

    async def check(self) -> None:
        if self.hangs:
            await asyncio.Event().wait()
        if self.error is not None:
            raise self.error

    def alive(self) -> str | None:
        self.looks += 1
        return self.reason


@pytest.fixture
def service() -> Service:
    return Service()


@pytest.fixture
async def client(service: Service) -> AsyncIterator[httpx.AsyncClient]:
    async def fine() -> None:
        """Always there."""

    server = InternalServer(metrics.Service.GATEWAY, 0, {"kafka": service.check, "s3": fine}, service.alive)
    await server.start()
    async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{server.port}") as found:
        yield found
    await server.stop()


async def get(client: httpx.AsyncClient, route: str) -> tuple[int, Any]:
    answer = await client.get(route)
    return answer.status_code, answer.json()


async def test_readyz_is_200_when_every_check_returns(client: httpx.AsyncClient, service: Service) -> None:
    assert await get(client, "/readyz") == (200, {"ready": True, "checks": {"kafka": "ok", "s3": "ok"}})
    service.error = RuntimeError("away")
    expected = {"ready": False, "checks": {"kafka": "RuntimeError: away", "s3": "ok"}}
    assert await get(client, "/readyz") == (503, expected)


async def test_readyz_names_a_check_that_hangs(
    client: httpx.AsyncClient, service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(health, "CHECK_TIMEOUT_SECONDS", 0.05)
    service.hangs = True
    status, answer = await get(client, "/readyz")
    assert status == 503
    assert answer["checks"] == {"kafka": "no answer within 0.05 s", "s3": "ok"}


async def test_healthz_is_200_unless_there_is_a_reason(client: httpx.AsyncClient, service: Service) -> None:
    assert await get(client, "/healthz") == (200, {"alive": True, "reason": None})
    service.reason = "stuck"
    assert await get(client, "/healthz") == (503, {"alive": False, "reason": "stuck"})


def test_hung_event_loop_ends_the_process() -> None:
    code = (
        "import asyncio, time\n"
        "from shared.observability import health, metrics\n"
        "health.HUNG_SECONDS = 3\n"
        "async def main():\n"
        "    await health.InternalServer(metrics.Service.GATEWAY, 0, {}, lambda: None).start()\n"
        "    await asyncio.sleep(0.1)\n"
        "    time.sleep(60)\n"
        "asyncio.run(main())\n"
    )
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=50, check=False)
    assert ended.returncode == 1
    assert "line 7 in main" in ended.stderr


async def test_service_that_stays_dead_ends_itself(service: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    clock, ended = Clock(0.0), asyncio.Event()
    monkeypatch.setattr(health, "WATCH_SECONDS", 0.001)
    monkeypatch.setattr(health, "time", SimpleNamespace(monotonic=clock))
    server = InternalServer(metrics.Service.GATEWAY, 0, {}, service.alive, end=ended.set)
    await server.start()

    async def looked() -> None:
        """Wait until the server has checked the current state."""
        looks = service.looks
        await wait_for_async(lambda: service.looks >= looks + 2, 20, "two more looks", pause=0.001)

    try:
        for now, reason in ((10, "stuck"), (69, "stuck"), (75, None), (80, "stuck"), (139, "stuck")):
            clock.now, service.reason = now, reason
            await looked()
            assert not ended.is_set(), now
        clock.now = 141
        await looked()
        assert ended.is_set()
    finally:
        await server.stop()


async def test_watch_that_fails_is_logged_and_ends_the_process() -> None:
    ended = asyncio.Event()

    def fail() -> str | None:
        raise KeyError("lag")

    server = InternalServer(metrics.Service.GATEWAY, 0, {}, fail, end=ended.set)
    structlog.reset_defaults()
    with structlog.testing.capture_logs() as lines:
        await server.start()
        try:
            async with asyncio.timeout(20):
                await ended.wait()
        finally:
            await server.stop()
    [line] = [line for line in lines if line["event"] == "health_watch_failed"]
    assert (line["log_level"], line["exc_info"]) == ("critical", True)


async def test_dependencies_are_checked_without_requests(service: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(health, "WATCH_SECONDS", 0.01)
    metrics.DEPENDENCY_UP.clear()

    async def until(value: float) -> None:
        series = 'imagepipe_dependency_up{dependency="kafka"}'
        await wait_for_async(
            lambda: sample(metrics.Service.GATEWAY, series) == value, 5, f"{series} {value}", pause=0.01
        )

    noted: list[tuple[str, bool]] = []
    server = InternalServer(
        metrics.Service.GATEWAY,
        0,
        {"kafka": service.check},
        service.alive,
        checked=lambda name, available: noted.append((name, available)),
    )
    with structlog.testing.capture_logs() as lines:
        await server.start()
        await until(1)
        service.error = RuntimeError("away")
        await until(0)
        service.error = None
        await until(1)
        await server.stop()

    logged = [(line["event"], line["dependency"]) for line in lines if "dependency" in line]
    assert logged == [("dependency_unavailable", "kafka"), ("dependency_available", "kafka")]
    assert [each for each, _ in itertools.groupby(noted)] == [("kafka", True), ("kafka", False), ("kafka", True)]


async def test_metrics_are_prometheus_text(client: httpx.AsyncClient) -> None:
    answer = await client.get("/metrics")
    assert answer.headers["content-type"].startswith("text/plain; version=")
    assert "python_info" in answer.text


async def test_taken_port_is_reported_and_stop_is_safe(service: Service) -> None:
    first = InternalServer(metrics.Service.GATEWAY, 0, {}, service.alive)
    await first.start()
    second = InternalServer(metrics.Service.GATEWAY, first.port, {}, service.alive)
    with pytest.raises(OSError, match="in use"):
        await second.start()
    await second.stop()
    await first.stop()


class TestProgress:
    def test_progress_without_work_is_never_stalled(self) -> None:
        clock = Clock(100.0)
        progress = Progress(timedelta(seconds=60), clock)
        for _ in range(5):
            clock.now += 50
            progress.waiting(0)
        clock.now += 500
        assert progress.stalled() is None

    def test_progress_is_stalled_by_work_that_does_not_advance(self) -> None:
        clock = Clock(100.0)
        progress = Progress(timedelta(seconds=60), clock)
        clock.now += 500
        # The time counts from the first measurement with waiting records.
        progress.waiting(7)
        clock.now += 60
        assert progress.stalled() is None
        clock.now += 1
        progress.waiting(9)
        assert progress.stalled() == "9 records wait, and there was no progress for 61 s"
        progress.advanced()
        assert progress.stalled() is None
