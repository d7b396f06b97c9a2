"""A small pool of render processes that survives whatever an image does to one of them.

Each worker has its own pair of pipes, so that a process killed in the middle of an answer spoils no one else's. That
is why this is neither `concurrent.futures` (one crash breaks the pool) nor a pool whose workers share a queue (one
killed while it writes breaks the queue).
"""

import asyncio
import contextlib
import os
import sys
from asyncio.subprocess import PIPE, Process

import psutil

from processor.rendering.render import Rendering, RenderLimits
from processor.rendering.wire import MAX_HEADER, PREFIX, READY, BadAnswerError, parse_answer, request_header
from shared.contract.ladder import Ladder
from shared.errors import ImageRejected, Unavailable
from shared.observability.metrics import RENDER_BUSY, RENDER_MEMORY_BYTES, RENDER_REPLACED, RENDER_WORKERS

_ATTEMPTS = 2
_START_SECONDS = 30.0
"""Loading the libraries takes well under a second; a machine this slow renders nothing either."""
_READ_BUFFER = 1 << 20

_REASONS = {
    "timeout": "Rendering took longer than {seconds:g} s, twice.",
    "crashed_decoder": "The process that decoded the image died, twice.",
}


class _CrashError(Exception):
    """The worker process ended, or answered nonsense, before the answer was complete."""


class RenderPool:
    """`workers` processes that render one image each at a time; `timeout_seconds` bounds one attempt at one image.

    Memory is bounded by `RenderLimits`, on purpose not by a limit on the processes: under RLIMIT_AS Pillow reports
    sound images as broken, and that answer would stand for ever.
    """

    def __init__(self, workers: int, timeout_seconds: float) -> None:
        self._workers = [_Worker() for _ in range(workers)]
        self._timeout_seconds = timeout_seconds
        self._idle: asyncio.Queue[_Worker] = asyncio.Queue()
        self._closing = False

    @property
    def pids(self) -> tuple[int, ...]:
        """Process ids of the workers that run now."""
        return tuple(worker.pid for worker in self._workers if worker.pid is not None)

    def measure(self) -> None:
        """Tell the metrics how much memory the workers hold."""
        total = 0
        for pid in self.pids:
            # One that has just ended holds nothing.
            with contextlib.suppress(psutil.NoSuchProcess):
                total += psutil.Process(pid).memory_info().rss
        RENDER_MEMORY_BYTES.set(total)

    async def start(self) -> None:
        """Start all workers and wait until their libraries are loaded. Raises Unavailable where that fails."""
        try:
            await asyncio.gather(*(worker.ensure_running() for worker in self._workers))
        except BaseException:
            await self._stop_all()
            raise
        for worker in self._workers:
            self._idle.put_nowait(worker)
        RENDER_WORKERS.set(len(self._workers))

    async def render(self, data: bytes, ladder: Ladder, limits: RenderLimits) -> Rendering:
        """Render in the next free worker; waits for one without limit.

        A worker that dies or takes too long is replaced and the image gets one more try in the fresh process.
        Raises ImageRejected as `processor.rendering.render.render` does, or with reason `crashed_decoder` or `timeout`;
        Unavailable when the pool closes or no process can be started; RuntimeError for a defect of the renderer.
        Cancelling ends the worker's process, so that its place is free at once.
        """
        worker = await self._take()
        try:
            with RENDER_BUSY.track_inprogress():
                return await self._attempt(worker, data, ladder, limits)
        except asyncio.CancelledError:
            RENDER_REPLACED.labels("cancelled").inc()
            worker.kill()
            raise
        finally:
            self._idle.put_nowait(worker)

    async def close(self, deadline_seconds: float) -> None:
        """Take no more images, wait this long for those in work, then end all processes.

        An image that is not done by then raises Unavailable in its caller.
        """
        if self._closing:
            return
        self._closing = True
        try:
            async with asyncio.timeout(deadline_seconds):
                for _ in self._workers:
                    await self._idle.get()
        except TimeoutError:
            pass  # What is still in work is ended below, and says so to its caller.
        await self._stop_all()
        # Callers that still wait for a worker are told, one waking the next.
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

    async def _attempt(self, worker: "_Worker", data: bytes, ladder: Ladder, limits: RenderLimits) -> Rendering:
        reason = ""
        for _ in range(_ATTEMPTS):
            self._check_open()
            await worker.ensure_running()
            try:
                async with asyncio.timeout(self._timeout_seconds):
                    return await worker.exchange(data, ladder, limits)
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


class _Worker:
    """One place in the pool: at most one process, started when needed."""

    def __init__(self) -> None:
        self._process: Process | None = None
        self._between_images = False

    @property
    def pid(self) -> int | None:
        return self._process.pid if self._process and self._process.returncode is None else None

    async def ensure_running(self) -> None:
        """Start a process unless one runs and waits for an image."""
        if self.pid is not None and self._between_images:
            return
        await self.stop()
        try:
            async with asyncio.timeout(_START_SECONDS):
                self._process = await self._spawn()
                await self._read(len(READY))
                self._between_images = True
        except (OSError, TimeoutError, _CrashError) as error:
            await self.stop()
            raise Unavailable("render pool", f"a worker process did not start: {error!r}") from error
        except asyncio.CancelledError:
            self.kill()
            raise

    async def _spawn(self) -> Process:
        return await asyncio.create_subprocess_exec(
            sys.executable, "-P", "-X", "faulthandler", "-m", "processor.rendering.worker",
            str(os.getpid()),
            stdin=PIPE, stdout=PIPE, limit=_READ_BUFFER,
            # Out of the terminal's process group: Ctrl-C is for the parent alone, even while the interpreter starts.
            start_new_session=True,
        )  # fmt: skip

    async def exchange(self, data: bytes, ladder: Ladder, limits: RenderLimits) -> Rendering:
        """Send one image and read the answer. Raises _CrashError where the process ends or answers nonsense."""
        assert self._process is not None
        assert self._process.stdin is not None
        # Whatever interrupts this, the pipes hold half a message then: the process must not be used again.
        self._between_images = False
        try:
            self._process.stdin.write(request_header(ladder, limits, len(data)))
            self._process.stdin.write(data)
            await self._process.stdin.drain()
        except ConnectionError as error:
            raise _CrashError from error
        header_size, body_size = PREFIX.unpack(await self._read(PREFIX.size))
        if header_size > MAX_HEADER:
            raise _CrashError(f"a header of {header_size} bytes")
        header = await self._read(header_size)
        body = await self._read(body_size)
        self._between_images = True
        try:
            return parse_answer(header, body)
        except BadAnswerError as error:
            raise _CrashError(str(error)) from error

    async def _read(self, size: int) -> bytes:
        assert self._process is not None
        assert self._process.stdout is not None
        try:
            return await self._process.stdout.readexactly(size)
        except (asyncio.IncompleteReadError, ConnectionError) as error:
            raise _CrashError("the process ended") from error

    def kill(self) -> None:
        """End the process without waiting; the next use starts another."""
        self._between_images = False
        if self._process and self._process.returncode is None:
            self._process.kill()

    async def stop(self) -> None:
        """End the process, if there is one, and wait until it is gone."""
        process = self._process
        if process is None:
            return
        self.kill()
        await process.wait()
        if self._process is process:
            self._process = None
