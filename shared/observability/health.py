"""The internal HTTP server of a service: liveness, readiness and metrics. Never expose its port to clients."""

import asyncio
import faulthandler
import os
import signal
import sys
import time
from collections.abc import Awaitable, Callable, Mapping
from datetime import timedelta

import structlog
from aiohttp import web
from prometheus_client import CONTENT_TYPE_LATEST

from shared.observability.metrics import DEPENDENCY_UP, Service, exposition

log = structlog.get_logger()

CHECK_TIMEOUT_SECONDS = 5.0
"""Time-out of one readiness check. It is below the time-out of usual probes, so that the answer names the dependency
that hangs."""
WATCH_SECONDS = 10.0
"""Interval between two checks of the dependencies for the metrics and the log. It does not depend on probes."""
DEAD_SECONDS = 60.0
"""Time after which a process that is not alive ends itself. An orchestrator that probes /healthz ends it earlier."""
HUNG_SECONDS = 300.0
"""Time after which the interpreter ends a process whose event loop hangs. It prints the stacks of all threads first."""


def end_process() -> None:
    """Send SIGTERM to this process. It stops in an orderly way, and its supervisor starts it again."""
    os.kill(os.getpid(), signal.SIGTERM)


class InternalServer:
    """Serves /healthz, /readyz and /metrics.

    - /readyz: 200 if all checks pass, otherwise 503; JSON `{"ready": bool, "checks": {name: "ok" or the error}}`.
    - /healthz: 503 if `alive` returns a reason to restart the process, otherwise 200.
    - /metrics: the metrics of `service`, in Prometheus' text format.

    Every WATCH_SECONDS the server runs the checks, sets the metric `imagepipe_dependency_up`, and logs each change.
    Each check calls `checked` with the name of the dependency and whether it is available. If `alive` has returned a
    reason at every check for DEAD_SECONDS, the server calls `end`. That needs a running event loop. If the event loop
    hangs for HUNG_SECONDS, the interpreter ends the process. Otherwise a hanging processor would keep its partitions,
    because Faust sends heartbeats from another thread.
    """

    def __init__(
        self,
        service: Service,
        port: int,
        readiness: Mapping[str, Callable[[], Awaitable[None]]],
        alive: Callable[[], str | None],
        *,
        host: str = "127.0.0.1",
        end: Callable[[], None] = end_process,
        checked: Callable[[str, bool], None] = lambda _name, _available: None,
    ) -> None:
        self._service = service
        self._host = host
        self._port = port
        self._readiness = readiness
        self._alive = alive
        self._runner: web.AppRunner | None = None
        self._watching: asyncio.Task[None] | None = None
        self._errors: dict[str, str | None] = {}
        self._end = end
        self._checked = checked
        self._dead_since: float | None = None

    @property
    def port(self) -> int:
        """The port of the server. With port 0 the operating system chooses a free one in start()."""
        if self._runner is not None and self._runner.addresses:
            return int(self._runner.addresses[0][1])
        return self._port

    async def start(self) -> None:
        """Start the server and the checks. Raises OSError if the port is in use."""
        app = web.Application()
        app.router.add_get("/healthz", self._healthz)
        app.router.add_get("/readyz", self._readyz)
        app.router.add_get("/metrics", self._metrics)
        runner = web.AppRunner(app, access_log=None, handle_signals=False, shutdown_timeout=1)
        await runner.setup()
        try:
            await web.TCPSite(runner, self._host, self._port).start()
        except BaseException:
            await runner.cleanup()
            raise
        self._runner = runner
        self._watching = asyncio.create_task(self._watch())
        log.info("internal_server_started", host=self._host, port=self.port)

    async def stop(self) -> None:
        """Stop the server and the checks. It may be called without start()."""
        watching, self._watching = self._watching, None
        if watching is not None:
            watching.cancel()
            faulthandler.cancel_dump_traceback_later()
            await asyncio.gather(watching, return_exceptions=True)
        runner, self._runner = self._runner, None
        if runner is not None:
            await runner.cleanup()

    async def _watch(self) -> None:
        try:
            while True:
                faulthandler.dump_traceback_later(HUNG_SECONDS, exit=True, file=sys.__stderr__ or sys.stderr)
                await self._check_all()
                self._check_liveness()
                await asyncio.sleep(WATCH_SECONDS)
        except Exception:
            # Without this loop faulthandler would end the process after HUNG_SECONDS, and nothing would say why.
            log.critical("health_watch_failed", exc_info=True)
            self._end()

    def _check_liveness(self) -> None:
        reason, now = self._alive(), time.monotonic()
        if reason is None:
            self._dead_since = None
        elif self._dead_since is None:
            self._dead_since = now
            log.error("liveness_check_failed", reason=reason)
        elif now - self._dead_since >= DEAD_SECONDS:
            log.critical("liveness_deadline_exceeded", reason=reason)
            self._end()

    async def _check_all(self) -> dict[str, str | None]:
        """Run all checks; returns the error of each, None for a check that passes."""
        names = list(self._readiness)
        found = await asyncio.gather(*(_check(self._readiness[name]) for name in names))
        for name, error in zip(names, found, strict=True):
            DEPENDENCY_UP.labels(name).set(error is None)
            self._checked(name, error is None)
            # The first check runs while the service still connects, so its failure is not logged.
            if name in self._errors and (error is None) != (self._errors[name] is None):
                if error is None:
                    log.info("dependency_available", dependency=name)
                else:
                    log.warning("dependency_unavailable", dependency=name, error=error)
            self._errors[name] = error
        return dict(self._errors)

    async def _healthz(self, _request: web.Request) -> web.Response:
        reason = self._alive()
        return web.json_response({"alive": reason is None, "reason": reason}, status=200 if reason is None else 503)

    async def _readyz(self, _request: web.Request) -> web.Response:
        errors = await self._check_all()
        ready = not any(errors.values())
        checks = {name: error or "ok" for name, error in errors.items()}
        return web.json_response({"ready": ready, "checks": checks}, status=200 if ready else 503)

    async def _metrics(self, _request: web.Request) -> web.Response:
        return web.Response(body=exposition(self._service), headers={"Content-Type": CONTENT_TYPE_LATEST})


async def _check(check: Callable[[], Awaitable[None]]) -> str | None:
    try:
        async with asyncio.timeout(CHECK_TIMEOUT_SECONDS):
            await check()
    except TimeoutError:
        return f"no answer within {CHECK_TIMEOUT_SECONDS:g} s"
    except Exception as error:
        # Any exception of a check means "not ready". /readyz returns it.
        return f"{type(error).__name__}: {error}"
    return None


class Progress:
    """Detects a stalled consumer: records wait, and there was no progress for `limit`. An idle one is not stalled."""

    def __init__(self, limit: timedelta, clock: Callable[[], float] = time.monotonic) -> None:
        self._limit = limit.total_seconds()
        self._clock = clock
        self._since = clock()
        self._waiting = 0

    def waiting(self, records: int) -> None:
        """Set the number of records that are in progress or not read yet. Zero counts as progress."""
        if self._waiting == 0 or records == 0:
            self._since = self._clock()
        self._waiting = records

    def advanced(self) -> None:
        """Note progress: a position was committed, or a page of a long job is done."""
        self._since = self._clock()

    def stalled(self) -> str | None:
        """The reason to restart the process, or None. Pass this method as `InternalServer(alive=...)`."""
        seconds = self._clock() - self._since
        if self._waiting and seconds > self._limit:
            return f"{self._waiting} records wait, and there was no progress for {seconds:.0f} s"
        return None
