"""Keeps the parts of one stack running: each that ends is started again, with its data, after a back-off."""

import asyncio
import contextlib
import signal
import time
from asyncio.subprocess import Process
from collections.abc import Collection, Iterable

from deploy.local.errors import Interrupted, StackError
from deploy.local.state import PartPhase, PartState, Phase, Root, State
from deploy.local.supervision import process
from deploy.local.supervision.logs import LogFile, Sink, pump, tail
from deploy.local.supervision.parts import Part
from shared.retry import Backoff

STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
PROBE_INTERVAL = 0.15
PROBE_TIMEOUT = 10.0
FIRST_RESTART_PAUSE = 0.5
LONGEST_RESTART_PAUSE = 30.0
RAN_WELL = 30.0
"""Seconds that a part must have run for its next pause to be the first again."""
FATAL_STARTS = 3
"""A part that has ended this often and was never ready does not become ready by another start."""


class Supervisor:
    """Owns the parts' processes and records them in the stack's state.

    All methods must be called on one event loop on the main thread (see `process.spawn`).
    """

    def __init__(self, root: Root, state: State, sink: Sink) -> None:
        self.state = state
        self.stop = asyncio.Event()
        self._root = root
        self._sink = sink
        self._parts: dict[str, Part] = {}
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._ready: dict[str, asyncio.Event] = {}
        self._hopeless: dict[str, StackError] = {}
        self._leaving: set[str] = set()

    def handle_signals(self, earlier: Collection[int] = ()) -> None:
        """Ctrl-C, SIGTERM and a closed terminal end the stack in order, also if there were `earlier` ones."""
        loop = asyncio.get_running_loop()
        for number in STOP_SIGNALS:
            loop.add_signal_handler(number, self.stop.set)
        if earlier:
            self.stop.set()

    def set_phase(self, phase: Phase, message: str = "") -> None:
        """Record the phase of the stack."""
        self.state.phase, self.state.message = phase, message
        self._root.save(self.state)

    async def start(self, part: Part) -> None:
        """Start a part and return when it is ready. Raises StackError, or Interrupted when the stack is to stop."""
        self._parts[part.name] = part
        self._ready[part.name] = asyncio.Event()
        self.state.parts[part.name] = PartState(url=part.url, ready_url=part.ready_url)
        task = asyncio.create_task(self._keep_running(part), name=part.name)
        self._tasks[part.name] = task
        waits = [
            asyncio.ensure_future(self._ready[part.name].wait()),
            asyncio.ensure_future(self.stop.wait()),
            task,
        ]
        try:
            await asyncio.wait(waits, timeout=part.start_timeout, return_when=asyncio.FIRST_COMPLETED)
        finally:
            waits[0].cancel()
            waits[1].cancel()
        if self._ready[part.name].is_set():
            return
        if self.stop.is_set():
            raise Interrupted("Interrupted while starting.")
        if task.done():
            raise self._hopeless.get(part.name) or task.exception() or StackError(f"{part.title} ended.")
        raise StackError(self._explain(part, f"was not ready within {part.start_timeout:.0f} s"))

    async def stop_parts(self, names: Iterable[str]) -> None:
        """End these parts in parallel: SIGTERM, and SIGKILL after each one's grace."""
        names = [name for name in names if name in self._tasks]
        self._leaving.update(names)
        await asyncio.gather(*(self._stop_part(self._parts[name]) for name in names))

    async def _stop_part(self, part: Part) -> None:
        task, child = self._tasks[part.name], self.state.parts[part.name].process
        if child is not None:
            process.signal_group(child.pid, signal.SIGTERM)
            await asyncio.wait([task], timeout=part.stop_grace)
        # Cancelled while the child still runs, the task kills it; while it waits to start again, there is no child.
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError, StackError):
            await task
        self._update(part, PartPhase.STOPPED, detail="")

    async def _keep_running(self, part: Part) -> None:
        backoff = Backoff(FIRST_RESTART_PAUSE, LONGEST_RESTART_PAUSE)
        log = LogFile(self._root.logs / f"{part.name}.log")
        try:
            while part.name not in self._leaving:
                started = time.monotonic()
                ending = await self._tried_once(part, log)
                if part.name in self._leaving:
                    return
                if time.monotonic() - started >= RAN_WELL:
                    backoff.reset()
                delay = backoff.next_pause()
                self._note(part, log, f"{part.name} {ending}; it is started again in {delay:.1f} s")
                if not self._ready[part.name].is_set() and backoff.failures >= FATAL_STARTS:
                    self._hopeless[part.name] = StackError(self._explain(part, f"does not start: it {ending}"))
                    return
                self.state.parts[part.name].restarts += 1
                self._update(part, PartPhase.WAITING, detail=ending)
                await asyncio.sleep(delay)
        finally:
            log.close()

    async def _tried_once(self, part: Part, log: LogFile) -> str:
        try:
            return await self._run_once(part, log)
        except OSError as error:
            # A full disk, or too many processes: the next start may succeed.
            return f"could not be started: {error}"

    async def _run_once(self, part: Part, log: LogFile) -> str:
        """Run the part to its end; how it ended, in words."""
        await asyncio.to_thread(part.prepare)
        child = await process.spawn(
            part.argv, part.env, self.state.stack_id, self._root.path, with_input=part.release is not None
        )
        assert child.stdout is not None
        self.state.parts[part.name].process = process.reference(child.pid)
        self._update(part, PartPhase.STARTING, detail="")

        def write(line: str) -> None:
            log.write(line)
            # The warnings of an engine that starts without an error are noise; if it does not start, the end of its log
            # is shown.
            if part.quiet and self.state.parts[part.name].phase is not PartPhase.READY:
                return
            self._show(part, line)

        pumping = asyncio.create_task(pump(child.stdout, write))
        probing = asyncio.create_task(self._watch_until_ready(part, child))
        try:
            code = await self._wait_for(part, child, probing)
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(pumping, timeout=2)
        finally:
            process.close_pipes(child)
        return _ending(code)

    async def _wait_for(self, part: Part, child: Process, probing: asyncio.Task[None]) -> int:
        """The exit code of the child, once it has ended. If this is cancelled the child is killed."""
        try:
            return await child.wait()
        finally:
            probing.cancel()
            # End the processes that the part has started as well: they would hold ports and files of the next start.
            process.signal_group(child.pid, signal.SIGKILL)
            self.state.parts[part.name].process = None

    async def _watch_until_ready(self, part: Part, child: Process) -> None:
        if part.release is not None and child.stdin is not None:
            await part.release()
            # The part may have ended by now; then it is started again.
            with contextlib.suppress(ConnectionError):
                child.stdin.write(b"\n")
                await child.stdin.drain()
        while True:
            try:
                async with asyncio.timeout(PROBE_TIMEOUT):
                    await part.probe()
            except Exception as error:  # Every error of a client means: not yet.
                self.state.parts[part.name].detail = f"{type(error).__name__}: {error}"[:300]
                await asyncio.sleep(PROBE_INTERVAL)
            else:
                self._ready[part.name].set()
                self._update(part, PartPhase.READY, detail="")
                return

    def _update(self, part: Part, phase: PartPhase, detail: str) -> None:
        own = self.state.parts[part.name]
        own.phase, own.detail = phase, detail
        try:
            self._root.save(self.state)
        except OSError as error:
            # On a full disk `imagepipe status` shows an old state; the parts go on.
            self._show(part, f"WARN the state could not be saved: {error}")

    def _note(self, part: Part, log: LogFile, text: str) -> None:
        log.write(f"WARN {text}")
        self._show(part, f"WARN {text}")

    def _show(self, part: Part, line: str) -> None:
        # The terminal may be a file on a full disk.
        with contextlib.suppress(OSError):
            self._sink(part.name, line, part.quiet)

    def _explain(self, part: Part, what: str) -> str:
        path = self._root.logs / f"{part.name}.log"
        last = "\n".join(tail(path, 12))
        detail = self.state.parts[part.name].detail
        return f"{part.title} {what}{f' ({detail})' if detail else ''}. The end of {path}:\n{last}"


def _ending(code: int) -> str:
    if code < 0:
        return f"was ended by {signal.Signals(-code).name}"
    return f"ended with exit code {code}"
