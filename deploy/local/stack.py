"""Starts and keeps one whole stack: engines, provisioning, services."""

import asyncio
import os
import threading
import time
from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import psutil

from deploy.local import ports, services
from deploy.local.cache import Cache, check_disk
from deploy.local.engines import cassandra, jars, kafka, s3
from deploy.local.engines.java_runtime import archive_classes, find_java, java_of_wheel
from deploy.local.errors import Interrupted, StackError
from deploy.local.provisioning import provision
from deploy.local.reporting import Reporter
from deploy.local.state import Phase, Root, State
from deploy.local.supervision import process
from deploy.local.supervision.logs import Sink
from deploy.local.supervision.parts import Part
from deploy.local.supervision.supervisor import Supervisor
from deploy.local.topology import Member, hosts, members
from shared.concurrency import for_each

DEFAULT_GATEWAY_PORT = 8000
NODE_DISK = 500_000_000
"""Bytes under the root, for a node's commit log of Cassandra and first segments of Kafka."""

MODULES = {kafka.NAME: kafka, cassandra.NAME: cassandra, s3.NAME: s3}
JAVA_ENGINES = {kafka.NAME, cassandra.NAME}
MEMORY = {name: module.MEMORY for name, module in MODULES.items()} | services.MEMORY
MEMORY[s3.LIFECYCLE] = s3.LIFECYCLE_MEMORY
"""Bytes of one part of each kind."""


@dataclass(frozen=True)
class Options:
    """What the user chose. `gateway_port` 0: any free one, None: as the last time, or 8000."""

    root: Root
    gateway_port: int | None
    with_services: bool
    given: Mapping[str, str]
    """The environment: settings, and endpoints of engines that are not to be started."""
    cluster: bool = False

    @property
    def engines(self) -> tuple[str, ...]:
        """The engines that this stack starts itself."""
        return tuple(name for name in MODULES if not self.given.get(services.ENDPOINTS[name]))

    @property
    def parts(self) -> tuple[Member, ...]:
        """All parts that this stack runs, engines first."""
        kinds = self.engines
        if s3.NAME in self.engines:
            kinds += (s3.LIFECYCLE,)
        if self.with_services:
            kinds += (*services.NAMES, services.SWEEP)
        return tuple(member for kind in kinds for member in members(kind, self.cluster))


def prepare(options: Options, reporter: Reporter) -> State:
    """The state to start from: leftovers of a killed run ended, room checked, ports chosen. Needs the root's lock."""
    root = options.root
    root.create()
    check_shape(options)
    state = root.load() or State(cluster=options.cluster)
    left = process.leftovers(state.stack_id)
    if left:
        with reporter.step(f"Ended {len(left)} processes that a killed run had left"):
            process.end(left, grace=10)
    addresses = hosts(options.cluster)
    ports.check_addresses(addresses)
    check_disk(root.path, NODE_DISK * len(addresses))
    if options.engines:
        check_memory(needed_memory(options))
    names = [*services.PORTS, *(port for engine in options.engines for port in MODULES[engine].PORTS)]
    kept = state.ports
    chosen = ports.assign(names, kept, addresses)
    chosen["gateway"] = ports.gateway_port(
        options.gateway_port, kept.get("gateway"), DEFAULT_GATEWAY_PORT, chosen.values(), addresses
    )
    state.ports = {**kept, **chosen}
    state.gateway_url = f"http://{ports.LOOPBACK}:{chosen['gateway']}" if options.with_services else None
    state.parts = {}
    state.supervisor = process.reference(os.getpid())
    state.phase, state.message = Phase.STARTING, ""
    root.save(state)
    return state


def check_shape(options: Options) -> None:
    """Raise StackError when the root holds a cluster and one node is wanted, or the other way round."""
    state = options.root.load()
    if state is None or state.cluster == options.cluster:
        return
    was, way_out = ("a cluster", "say --cluster again") if state.cluster else ("single nodes", "leave --cluster out")
    raise StackError(
        f"The stack under {options.root.path} was made as {was}, and its data stay that: {way_out}, choose another "
        f"directory with --root, or remove the data with `imagepipe down --delete-data`."
    )


def needed_memory(options: Options) -> int:
    """Bytes that the parts of this stack take, as far as that is known before it is used."""
    return sum(MEMORY[member.kind] for member in options.parts)


def check_memory(needed: int) -> None:
    """Raise StackError when the machine has less memory available than that."""
    available = psutil.virtual_memory().available
    if available < needed:
        raise StackError(
            f"{available / 1e9:.1f} GB of memory are available, the stack needs {needed / 1e9:.1f} GB: close "
            f"other programs, or point KAFKA_BOOTSTRAP_SERVERS, CASSANDRA_CONTACT_POINTS or S3_ENDPOINT_URL to engines "
            f"that run elsewhere."
        )


def fetch(engines: tuple[str, ...], cache: Cache, reporter: Reporter) -> dict[str, Path]:
    """Programs and jars of the engines; jars are downloaded at once where the cache lacks them.

    Their Java gets its archive of classes meanwhile. Raises StackError, also where there is no Java for them.
    """
    found = {s3.NAME: s3.find_program()} if s3.NAME in engines else {}
    stop = threading.Event()
    with reporter.one_time_work() as work, ThreadPoolExecutor(len(JAVA_ENGINES), thread_name_prefix="fetch") as pool:
        futures: dict[str, Future[Path]] = {
            name: pool.submit(jars.fetch, name, cache, work, stop) for name in engines if name in JAVA_ENGINES
        }
        try:
            if JAVA_ENGINES & set(engines):
                archive_classes(find_java(), java_of_wheel())
            return found | {name: future.result() for name, future in futures.items()}
        except BaseException:
            stop.set()  # The others end at their next line or chunk, so that leaving this block does not hang.
            raise


def engine_parts(options: Options, state: State, found: Mapping[str, Path]) -> list[Part]:
    """The engines of this stack as parts. Raises StackError where there is no Java for them."""
    env = _plain_environment(options.given)
    parts = []
    java = find_java() if JAVA_ENGINES & set(options.engines) else Path()
    for member in options.parts:
        if member.kind == s3.NAME:
            bucket = services.settings_from(services.environment(state, options.given)).s3_bucket
            parts.append(s3.part(options.root, state, bucket, found[s3.NAME], env))
        elif member.kind in options.engines:
            module = kafka if member.kind == kafka.NAME else cassandra
            parts.append(module.part(options.root, state, member, java, found[member.kind], env))
    return parts


def _plain_environment(given: Mapping[str, str]) -> dict[str, str]:
    # Options for other Java programs of the user must not reach the engines.
    foreign = ("JAVA_TOOL_OPTIONS", "JDK_JAVA_OPTIONS", "_JAVA_OPTIONS", "CLASSPATH")
    return {name: value for name, value in given.items() if name not in foreign}


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
        await _start(supervisor, options, engines, found.get(s3.NAME), reporter)
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


async def _start(
    supervisor: Supervisor, options: Options, engines: list[Part], own_s3: Path | None, reporter: Reporter
) -> None:
    begin = time.monotonic()

    async def start(part: Part) -> None:
        await supervisor.start(part)
        reporter.done(f"{part.title} is ready at {part.url}", time.monotonic() - begin)

    await for_each(engines, start, at_once=len(engines))
    values = services.environment(supervisor.state, options.given)
    options.root.write_env(values)
    settings = services.settings_from(values)
    root, state = options.root, supervisor.state
    await provision(settings, root, state, own_s3, reporter)
    if own_s3 is not None:
        await supervisor.start(s3.lifecycle_part(root, state, own_s3, options.given))
    if options.with_services:
        begin = time.monotonic()
        env = {**options.given, **values}
        wanted = [services.part(each, state, env) for each in options.parts if each.kind in services.NAMES]
        await for_each(wanted, start, at_once=len(wanted))
        await supervisor.start(services.sweep_part(env))


async def _end(supervisor: Supervisor, engines: list[str], reporter: Reporter) -> None:
    failed = supervisor.state.phase is Phase.FAILED
    if not failed:
        supervisor.set_phase(Phase.STOPPING)
    with reporter.step("Stopped"):
        # Services first: they finish what they hold while the engines still answer.
        await supervisor.stop_parts(supervisor.state.parts.keys() - set(engines))
        await supervisor.stop_parts(engines)
    supervisor.state.supervisor = None
    if not failed:
        supervisor.set_phase(Phase.STOPPED)
