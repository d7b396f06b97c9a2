"""The internal port of a service: liveness, readiness per dependency, and metrics. Never exposed to clients."""

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
"""An orchestrator's probe gives up after a few seconds; a dependency that hangs is named rather than waited for."""
WATCH_SECONDS = 10.0
"""Between two looks at the dependencies for the metrics and the log, whether anybody probes or not."""
DEAD_SECONDS = 60.0
"""An orchestrator that probes /healthz has restarted a process by then; where none does, it ends itself."""
HUNG_SECONDS = 300.0
"""After so long without a turn of its event loop a process is ended where it stands; its last lines say where."""


def end_process() -> None:
    """End this process in order, as by SIGTERM, for its supervisor to start it again."""
    os.kill(os.getpid(), signal.SIGTERM)


class InternalServer:
    """Serves /healthz, /readyz and /metrics.

    - /readyz: 200 if every check returns, else 503; JSON `{"ready": bool, "checks": {name: "ok" or the error}}`.
    - /healthz: 200 unless `alive` gives a reason to restart the process, which is answered with 503.
    - /metrics: what `service` measures, in Prometheus' text format.

    Meanwhile it watches the same checks for the metric `imagepipe_dependency_up`, and logs what comes and goes. When
    `alive` has given a reason at every look for `DEAD_SECONDS`, it calls `end`. A process whose event loop hangs could
    not, and a processor would keep its partitions, as Faust's heartbeats have a thread of their own: the interpreter
    ends it.
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
        self._dead_since: float | None = None

    @property
    def port(self) -> int:
        """Port that is listened on; after start() with port 0, the one that was free."""
        if self._runner is not None and self._runner.addresses:
            return int(self._runner.addresses[0][1])
        return self._port

    async def start(self) -> None:
        """Listen. Raises OSError where the port is taken."""
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
        log.info("internal_server_listens", host=self._host, port=self.port)

    async def stop(self) -> None:
        """Close the port. Safe without start()."""
        watching, self._watching = self._watching, None
        if watching is not None:
            watching.cancel()
            faulthandler.cancel_dump_traceback_later()
            await asyncio.gather(watching, return_exceptions=True)
        runner, self._runner = self._runner, None
        if runner is not None:
            await runner.cleanup()

    async def _watch(self) -> None:
        while True:
            faulthandler.dump_traceback_later(HUNG_SECONDS, exit=True, file=sys.__stderr__ or sys.stderr)
            await self._check_all()
            self._look_at_life()
            await asyncio.sleep(WATCH_SECONDS)

    def _look_at_life(self) -> None:
        reason, now = self._alive(), time.monotonic()
        if reason is None:
            self._dead_since = None
        elif self._dead_since is None:
            self._dead_since = now
            log.error("not_alive", reason=reason)
        elif now - self._dead_since >= DEAD_SECONDS:
            log.critical("ends_itself", reason=reason)
            self._end()

    async def _check_all(self) -> dict[str, str | None]:
        """The error of each check, None where it passes."""
        names = list(self._readiness)
        found = await asyncio.gather(*(_check(self._readiness[name]) for name in names))
        for name, error in zip(names, found, strict=True):
            DEPENDENCY_UP.labels(name).set(error is None)
            # The first look comes while connections are being made: being away then is no news.
            if name in self._errors and (error is None) != (self._errors[name] is None):
                told = log.info if error is None else log.warning
                told("dependency_back" if error is None else "dependency_lost", dependency=name, error=error)
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
        # Whatever a check raises means "not ready"; the probe's answer is where it is told.
        return f"{type(error).__name__}: {error}"
    return None


class Progress:
    """Tells a consumer that is stuck (work waits, nothing is committed for long) from one that is idle."""

    def __init__(self, limit: timedelta, clock: Callable[[], float] = time.monotonic) -> None:
        self._limit = limit.total_seconds()
        self._clock = clock
        self._since = clock()
        self._waiting = 0

    def waiting(self, records: int) -> None:
        """This many records are under way or not read yet. Zero counts as progress: there was nothing to do."""
        if self._waiting == 0 or records == 0:
            self._since = self._clock()
        self._waiting = records

    def advanced(self) -> None:
        """Something irreversible was done: a position committed, a page of a long job finished."""
        self._since = self._clock()

    def stalled(self) -> str | None:
        """Why the process should be restarted, or None. Fits `InternalServer(alive=...)`."""
        seconds = self._clock() - self._since
        if self._waiting and seconds > self._limit:
            return f"{self._waiting} records wait and nothing advanced for {seconds:.0f} s"
        return None
