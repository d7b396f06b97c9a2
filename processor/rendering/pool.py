"""A pool of render processes. If an image makes a process crash or hang, the pool replaces that process.

Each worker has its own pair of pipes, so a process that is killed while it writes an answer does not damage the answers
of the others. `concurrent.futures` is not suitable, because one crash breaks the whole pool. A shared queue is not
suitable either, because a process that is killed while it writes breaks the queue.
"""

import asyncio
import contextlib
import functools
import operator
import os
import sys
from asyncio.subprocess import PIPE, Process
from dataclasses import dataclass

import psutil
import structlog

from processor.rendering import sandbox
from processor.rendering.render import Part, Rendering, RenderLimits
from processor.rendering.sandbox import Protection
from processor.rendering.wire import (
    MAX_HEADER,
    PREFIX,
    READY_SIZE,
    BadAnswerError,
    max_body,
    parse_answer,
    parse_ready,
    request_header,
)
from shared.contract.ladder import Ladder
from shared.errors import ImageRejected, Unavailable
from shared.observability.metrics import (
    RENDER_BUSY,
    RENDER_MEMORY_BYTES,
    RENDER_REPLACED,
    RENDER_SANDBOX,
    RENDER_WORKERS,
)

log = structlog.get_logger()

WORKER_MODULE = "processor.rendering.worker"
_ATTEMPTS = 2
_START_SECONDS = 30.0
"""Time-out of the start of a worker. Loading the libraries takes well under a second."""
_READ_BUFFER = 1 << 20

_REASONS = {
    "timeout": "Rendering took longer than {seconds:g} s, twice.",
    "crashed_decoder": "The process that decoded the image died, twice.",
}


class _CrashError(Exception):
    """The worker process ended before its answer was complete, or its answer is invalid."""


class RenderPool:
    """`workers` processes, each of which renders one image at a time. `timeout_seconds` is the time of one attempt.

    Each worker runs in a sandbox (`processor.rendering.sandbox`), and the pool checks its answers. `RenderLimits` bound
    the memory: they count the pixels of an image before it is decoded. The sandbox also limits the memory of a decoder
    that an attacker has taken over.
    """

    def __init__(self, workers: int, timeout_seconds: float, module: str = WORKER_MODULE) -> None:
        """`module` is the Python module that each process runs. Tests use one with a hostile decoder."""
        self._workers = [_Worker(module) for _ in range(workers)]
        self._timeout_seconds = timeout_seconds
        self._idle: asyncio.Queue[_Worker] = asyncio.Queue()
        self._closing = False

    @property
    def pids(self) -> tuple[int, ...]:
        """Process ids of the running workers."""
        return tuple(worker.pid for worker in self._workers if worker.pid is not None)

    @property
    def protections(self) -> Protection:
        """The protections that hold for all workers; none before `start`."""
        return functools.reduce(operator.and_, (worker.protections for worker in self._workers))

    def measure(self) -> None:
        """Set the metric of the workers' memory."""
        total = 0
        for pid in self.pids:
            # A process that has just ended has no memory.
            with contextlib.suppress(psutil.NoSuchProcess):
                total += psutil.Process(pid).memory_info().rss
        RENDER_MEMORY_BYTES.set(total)

    async def start(self) -> None:
        """Start all workers and wait until they are ready. Raises Unavailable if a worker does not start."""
        try:
            await asyncio.gather(*(worker.ensure_running() for worker in self._workers))
        except BaseException:
            await self._stop_all()
            raise
        for worker in self._workers:
            self._idle.put_nowait(worker)
        RENDER_WORKERS.set(len(self._workers))
        self._report_sandbox()

    def _report_sandbox(self) -> None:
        protections = self.protections
        for protection in Protection:
            RENDER_SANDBOX.labels(str(protection.name).lower()).set(protection in protections)
        if missing := sandbox.ALL & ~protections:
            log.warning("render_sandbox_incomplete", missing=[str(each.name).lower() for each in missing])

    async def render(
        self, data: bytes, ladder: Ladder, limits: RenderLimits, pixels: int | None = None, part: Part = Part.WHOLE
    ) -> Rendering:
        """Render a part of the ladder in the next free worker. The wait for a free worker has no time-out.

        `pixels` is the number of pixels of all frames, or None if unknown. It limits the size of the answer.
        If a worker crashes or takes too long, the pool replaces it and tries the image once more in the new process.
        Raises ImageRejected like `processor.rendering.render.render`, or with reason `crashed_decoder` or `timeout`;
        Unavailable if the pool closes or no process can be started; RuntimeError for an unexpected error of the
        renderer. If the caller is cancelled, the pool kills the process, so that its place is free at once.
        """
        worker = await self._take()
        try:
            with RENDER_BUSY.track_inprogress():
                return await self._attempt(worker, _Request(data, ladder, limits, pixels, part))
        except asyncio.CancelledError:
            RENDER_REPLACED.labels("cancelled").inc()
            worker.kill()
            raise
        finally:
            self._idle.put_nowait(worker)

    async def close(self, deadline_seconds: float) -> None:
        """Accept no more images, wait up to the deadline for running ones, then end all processes.

        The callers of images that are not done by then get Unavailable.
        """
        if self._closing:
            return
        self._closing = True
        try:
            async with asyncio.timeout(deadline_seconds):
                for _ in self._workers:
                    await self._idle.get()
        except TimeoutError:
            pass  # `_stop_all` ends the processes that still render. Their callers get Unavailable.
        await self._stop_all()
        # Callers that still wait for a worker get Unavailable. Each of them wakes the next one.
        if self._workers:
            self._idle.put_nowait(self._workers[0])

    async def _take(self) -> "_Worker":
        self._check_open()
        worker = await self._idle.get()
        if self._closing:
            self._idle.put_nowait(worker)
        self._check_open()
        return worker

    def _check_open(self) -> None:
        if self._closing:
            raise Unavailable("render pool", "closing")

    async def _attempt(self, worker: "_Worker", request: "_Request") -> Rendering:
        reason = ""
        for _ in range(_ATTEMPTS):
            self._check_open()
            await worker.ensure_running()
            try:
                worker.limit(self._timeout_seconds, request.limits)
                async with asyncio.timeout(self._timeout_seconds):
                    return await worker.exchange(request)
            except TimeoutError:
                reason = "timeout"
            except _CrashError:
                reason = "crashed_decoder"
            RENDER_REPLACED.labels(reason).inc()
            await worker.stop()
        self._check_open()
        raise ImageRejected(reason, _REASONS[reason].format(seconds=self._timeout_seconds))

    async def _stop_all(self) -> None:
        await asyncio.gather(*(worker.stop() for worker in self._workers))


@dataclass(frozen=True)
class _Request:
    """One image, or a part of its variants, to render. For `pixels` see `RenderPool.render`."""

    data: bytes
    ladder: Ladder
    limits: RenderLimits
    pixels: int | None
    part: Part


class _Worker:
    """One place in the pool. It has at most one process, which is started when it is needed."""

    def __init__(self, module: str) -> None:
        self._module = module
        self.protections = Protection(0)
        self._process: Process | None = None
        self._between_images = False

    @property
    def pid(self) -> int | None:
        return self._process.pid if self._process and self._process.returncode is None else None

    async def ensure_running(self) -> None:
        """Start a process, unless one is running and waits for an image."""
        if self.pid is not None and self._between_images:
            return
        await self.stop()
        try:
            async with asyncio.timeout(_START_SECONDS):
                self._process = await self._spawn()
                self.protections = parse_ready(await self._read(READY_SIZE))
                self._between_images = True
        except (OSError, TimeoutError, BadAnswerError, _CrashError) as error:
            await self.stop()
            raise Unavailable("render pool", f"a worker process did not start: {error!r}") from error
        except asyncio.CancelledError:
            self.kill()
            raise

    async def _spawn(self) -> Process:
        return await asyncio.create_subprocess_exec(
            sys.executable, "-P", "-X", "faulthandler", "-m", self._module, str(os.getpid()),
            stdin=PIPE, stdout=PIPE, limit=_READ_BUFFER,
            # A new session keeps the process out of the terminal's process group. Ctrl-C then reaches the parent only,
            # even while the interpreter starts.
            start_new_session=True,
        )  # fmt: skip

    def limit(self, seconds: float, limits: RenderLimits) -> None:
        """Limit the CPU time and the memory of the next image. Raises _CrashError if the process has ended."""
        assert self._process is not None
        try:
            sandbox.limit_image(self._process.pid, seconds, limits)
        except (OSError, psutil.NoSuchProcess) as error:
            raise _CrashError from error

    async def exchange(self, request: _Request) -> Rendering:
        """Send one image and read the answer. Raises _CrashError if the process ends or the answer is invalid."""
        assert self._process is not None
        assert self._process.stdin is not None
        # If this method is interrupted, the pipes contain a part of a message, and the process cannot be used again.
        self._between_images = False
        try:
            self._process.stdin.write(request_header(request.ladder, request.limits, len(request.data), request.part))
            self._process.stdin.write(request.data)
            await self._process.stdin.drain()
        except ConnectionError as error:
            raise _CrashError from error
        header_size, body_size = PREFIX.unpack(await self._read(PREFIX.size))
        if header_size > MAX_HEADER or body_size > max_body(request.ladder, request.limits, request.pixels):
            raise _CrashError(f"an answer with a header of {header_size} and a body of {body_size} bytes")
        header = await self._read(header_size)
        body = await self._read(body_size)
        try:
            # This runs in a thread, because hashing some megabytes takes milliseconds.
            rendering = await asyncio.to_thread(
                parse_answer, header, body, request.ladder, request.limits, request.part
            )
        except BadAnswerError as error:
            raise _CrashError(str(error)) from error
        except (ImageRejected, RuntimeError):
            self._between_images = True
            raise
        self._between_images = True
        return rendering

    async def _read(self, size: int) -> bytes:
        assert self._process is not None
        assert self._process.stdout is not None
        try:
            return await self._process.stdout.readexactly(size)
        except (asyncio.IncompleteReadError, ConnectionError) as error:
            raise _CrashError("the process ended") from error

    def kill(self) -> None:
        """Kill the process without waiting for its end. The next use starts a new one."""
        self._between_images = False
        if self._process and self._process.returncode is None:
            self._process.kill()

    async def stop(self) -> None:
        """Kill the process, if there is one, and wait for its end."""
        process = self._process
        if process is None:
            return
        self.kill()
        await process.wait()
        if self._process is process:
            self._process = None
