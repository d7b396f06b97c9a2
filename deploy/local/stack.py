"""Starts and keeps one whole stack: engines, provisioning, services."""

import asyncio
import os
import threading
import time
from collections.abc import Callable, Coroutine, Iterable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

from deploy.local import cassandra, jars, kafka, ports, process, s3, services
from deploy.local.cache import Cache, check_disk
from deploy.local.errors import Interrupted, StackError
from deploy.local.java import find_java
from deploy.local.logs import Sink
from deploy.local.parts import Part
from deploy.local.provisioning import provision
from deploy.local.reporting import Reporter
from deploy.local.state import Phase, Root, State
from deploy.local.supervisor import Supervisor

DEFAULT_GATEWAY_PORT = 8000
NEEDS_MEMORY = 1_500_000_000
"""Bytes that all parts together held after a run of uploads; the engines 0.9 GB of them."""
NEEDS_DISK = 500_000_000
"""Bytes under the root, for Cassandra's commit log and first segments of Kafka."""

MODULES = {kafka.NAME: kafka, cassandra.NAME: cassandra, s3.NAME: s3}


@dataclass(frozen=True)
class Options:
    """What the user chose. `gateway_port` 0: any free one, None: as the last time, or 8000."""

    root: Root
    gateway_port: int | None
    with_services: bool
    given: Mapping[str, str]
    """The environment: settings, and endpoints of engines that are not to be started."""

    @property
    def engines(self) -> tuple[str, ...]:
        """The engines that this stack starts itself."""
        return tuple(name for name in MODULES if not self.given.get(services.ENDPOINTS[name]))


def prepare(options: Options, reporter: Reporter) -> State:
    """The state to start from: leftovers of a killed run ended, room checked, ports chosen. Needs the root's lock."""
    root = options.root
    root.create()
    state = root.load() or State()
    left = process.leftovers(state.stack_id)
    if left:
        with reporter.step(f"Ended {len(left)} processes that a killed run had left"):
            process.end(left, grace=10)
    check_disk(root.path, NEEDS_DISK)
    if options.engines:
        check_memory()
    names = [*services.PORTS, *(port for engine in options.engines for port in MODULES[engine].PORTS)]
    kept = state.ports
    chosen = ports.assign(names, kept)
    chosen["gateway"] = ports.gateway_port(
        options.gateway_port, kept.get("gateway"), DEFAULT_GATEWAY_PORT, chosen.values()
    )
    state.ports = {**kept, **chosen}
    state.gateway_url = f"http://{ports.LOOPBACK}:{chosen['gateway']}" if options.with_services else None
    state.parts = {}
    state.supervisor = process.reference(os.getpid())
    state.phase, state.message = Phase.STARTING, ""
    root.save(state)
    return state


def check_memory() -> None:
    """Raise StackError when the machine has less memory available than the engines take."""
    available = psutil.virtual_memory().available
    if available < NEEDS_MEMORY:
        raise StackError(
            f"{available / 1e9:.1f} GB of memory are available, the stack needs {NEEDS_MEMORY / 1e9:.1f} GB: close "
            f"other programs, or point KAFKA_BOOTSTRAP_SERVERS, CASSANDRA_CONTACT_POINTS or S3_ENDPOINT_URL to engines "
            f"that run elsewhere."
        )


def fetch(engines: tuple[str, ...], cache: Cache, reporter: Reporter) -> dict[str, Path]:
    """Programs and jars of the engines, downloaded or built at once where the cache lacks them. Raises StackError."""
    stop = threading.Event()
    with reporter.one_time_work() as work, ThreadPoolExecutor(len(MODULES), thread_name_prefix="fetch") as pool:
        futures: dict[str, Future[Path]] = {}
        for name in engines:
            if name == s3.NAME:
                futures[name] = pool.submit(s3.fetch, cache, work, stop)
            else:
                futures[name] = pool.submit(jars.fetch, name, cache, work, stop)
        try:
            return {name: future.result() for name, future in futures.items()}
        except BaseException:
            stop.set()  # The others end at their next line or chunk, so that leaving this block does not hang.
            raise


def engine_parts(options: Options, state: State, found: Mapping[str, Path]) -> list[Part]:
    """The engines of this stack as parts. Raises StackError where there is no Java for them."""
    env = _plain_environment(options.given)
    parts = []
    java = find_java() if {kafka.NAME, cassandra.NAME} & set(options.engines) else Path()
    for name in options.engines:
        if name == s3.NAME:
            parts.append(s3.part(options.root, state, found[name], env))
        else:
            module = kafka if name == kafka.NAME else cassandra
            parts.append(module.part(options.root, state, java, found[name], env))
    return parts


def _plain_environment(given: Mapping[str, str]) -> dict[str, str]:
    # Options for other Java programs or another S3 server of the user must not reach the engines.
    foreign = ("JAVA_TOOL_OPTIONS", "JDK_JAVA_OPTIONS", "_JAVA_OPTIONS", "CLASSPATH")
    return {name: value for name, value in given.items() if name not in foreign and not name.startswith("MINIO_")}


async def run(
    options: Options,
    state: State,
    found: Mapping[str, Path],
    reporter: Reporter,
    sink: Sink,
    when_ready: Callable[[State], None],
) -> None:
    """Start everything, call `when_ready`, keep it running until a signal comes, end it in order.

    Raises StackError when a part cannot be started; whatever was started is ended first.
    """
    supervisor = Supervisor(options.root, state, sink)
    supervisor.handle_signals()
    engines = engine_parts(options, state, found)
    try:
        await _start(supervisor, options, engines, reporter)
        supervisor.set_phase(Phase.READY)
        await asyncio.to_thread(when_ready, state)
        await supervisor.stop.wait()
    except Interrupted:
        reporter.say("Interrupted.")
    except Exception as error:
        supervisor.set_phase(Phase.FAILED, str(error))
        raise
    finally:
        await _end(supervisor, [part.name for part in engines], reporter)


async def _start(supervisor: Supervisor, options: Options, engines: list[Part], reporter: Reporter) -> None:
    begin = time.monotonic()

    async def start(part: Part) -> None:
        await supervisor.start(part)
        reporter.done(f"{part.title} is ready at {part.url}", time.monotonic() - begin)

    await _all(start(part) for part in engines)
    values = services.environment(supervisor.state, options.given)
    options.root.write_env(values)
    settings = services.settings_from(values)
    await provision(settings, supervisor.state, s3.NAME in options.engines, reporter)
    if options.with_services:
        begin = time.monotonic()
        env = {**options.given, **values}
        await _all(start(services.part(name, supervisor.state, env)) for name in services.NAMES)
        await supervisor.start(services.sweep_part(env))


async def _all(starts: Iterable[Coroutine[Any, Any, None]]) -> None:
    """Run the starts at once; the first error ends the others' waiting."""
    tasks = [asyncio.create_task(start) for start in starts]
    try:
        await asyncio.gather(*tasks)
    finally:
        for task in tasks:
            task.cancel()


async def _end(supervisor: Supervisor, engines: list[str], reporter: Reporter) -> None:
    failed = supervisor.state.phase is Phase.FAILED
    if not failed:
        supervisor.set_phase(Phase.STOPPING)
    with reporter.step("Stopped"):
        # Services first: they finish what they hold while the engines still answer.
        await supervisor.stop_parts((*services.NAMES, services.SWEEP))
        await supervisor.stop_parts(engines)
    supervisor.state.supervisor = None
    if not failed:
        supervisor.set_phase(Phase.STOPPED)
