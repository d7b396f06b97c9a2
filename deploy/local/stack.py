"""Starts one whole stack (engines, what the services need of them, services) and keeps it running."""

import asyncio
import os
import threading
import time
from collections.abc import Callable, Collection, Iterable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
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
from deploy.local.topology import Member, hosts, kind_of, members
from shared.concurrency import for_each

DEFAULT_GATEWAY_PORT = 8000
NODE_DISK = 500_000_000
"""Bytes under the root for each node: the commit log of Cassandra and the first segments of Kafka."""

MODULES = {kafka.NAME: kafka, cassandra.NAME: cassandra, s3.NAME: s3}
JAVA = "java"
JAVA_ENGINES = {kafka.NAME, cassandra.NAME}
MEMORY = {name: module.MEMORY for name, module in MODULES.items()} | services.MEMORY
MEMORY[s3.LIFECYCLE] = s3.LIFECYCLE_MEMORY
"""Bytes of one part of each kind."""


Adapt = Callable[[Part, Root, State], Part]
"""Returns the part that is started in place of this one."""


def unchanged(part: Part, _root: Root, _state: State) -> Part:
    """Start each part as it is."""
    return part


@dataclass(frozen=True)
class Options:
    """What the user chose. `gateway_port` 0: any free one, None: as the last time, or 8000."""

    root: Root
    gateway_port: int | None
    with_services: bool
    given: Mapping[str, str]
    """The environment: settings, and endpoints of engines that are not to be started."""
    cluster: bool = False
    adapt: Adapt = unchanged
    """Fault runs put proxies between services and engines, and set the clocks of gateways."""

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
    """The state to start from: ends leftovers of a killed run, checks disk and memory, chooses ports.

    The caller holds the root's lock. Raises StackError.
    """
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
    was, way_out = ("a cluster", "give --cluster again") if state.cluster else ("single nodes", "leave --cluster out")
    raise StackError(
        f"The stack under {options.root.path} was made as {was}, and its data cannot change to the other: {way_out}, "
        f"choose another directory with --root, or remove the data with `imagepipe down --delete-data`."
    )


def needed_memory(options: Options) -> int:
    """Bytes of memory that the parts of this stack take before clients use it."""
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
    """Programs and jars of the engines; jars that the cache lacks are downloaded side by side.

    Java archives its classes at the same time. Raises StackError, also where there is no Java or no S3 server for this
    platform: those are looked for first.
    """
    found = {s3.NAME: s3.find_program()} if s3.NAME in engines else {}
    java_engines = [name for name in engines if name in JAVA_ENGINES]
    if not java_engines:
        return found
    found[JAVA] = find_java()
    stop = threading.Event()
    with reporter.downloads() as downloads, ThreadPoolExecutor(len(JAVA_ENGINES), thread_name_prefix="fetch") as pool:
        futures: dict[str, Future[Path]] = {
            name: pool.submit(jars.fetch, name, cache, downloads, stop) for name in java_engines
        }
        try:
            archive_classes(found[JAVA], java_of_wheel())
            return found | {name: future.result() for name, future in futures.items()}
        except BaseException:
            stop.set()  # The other downloads end at their next chunk, so that leaving this block does not hang.
            raise


def engine_parts(options: Options, state: State, found: Mapping[str, Path]) -> list[Part]:
    """The engines of this stack as parts, from what `fetch` has found."""
    env = _plain_environment(options.given)
    parts = []
    for member in options.parts:
        if member.kind == s3.NAME:
            bucket = services.settings_from(services.environment(state, options.given)).s3_bucket
            parts.append(s3.part(options.root, state, bucket, found[s3.NAME], env))
        elif member.kind in options.engines:
            module = kafka if member.kind == kafka.NAME else cassandra
            parts.append(module.part(options.root, state, member, found[JAVA], found[member.kind], env))
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
    signals: Collection[int] = (),
) -> None:
    """Start everything, call `when_ready`, keep it running until a signal comes, end it in order.

    `signals` are those that came before this could handle them. Raises StackError when a part cannot be started, and
    Interrupted at a signal before all is ready; the parts that were started are ended first.
    """
    supervisor = Supervisor(options.root, state, sink)
    supervisor.handle_signals(signals)
    engines = engine_parts(options, state, found)
    try:
        await _start(supervisor, options, engines, found.get(s3.NAME), reporter)
        supervisor.set_phase(Phase.READY)
        await asyncio.to_thread(when_ready, state)
        await supervisor.stop.wait()
    except Interrupted:
        raise
    except Exception as error:
        supervisor.set_phase(Phase.FAILED, str(error))
        raise
    finally:
        await _end(supervisor, [part.name for part in engines], reporter)


async def _start(
    supervisor: Supervisor, options: Options, engines: list[Part], own_s3: Path | None, reporter: Reporter
) -> None:
    """Start each part as early as what it needs is there. Raises StackError, or Interrupted at a signal."""
    starting = asyncio.create_task(_start_all(supervisor, options, engines, own_s3, reporter))
    stopping = asyncio.create_task(supervisor.stop.wait())
    try:
        await asyncio.wait({starting, stopping}, return_when=asyncio.FIRST_COMPLETED)
        if not starting.done():
            raise Interrupted("Interrupted while starting.")
        await starting
    finally:
        for task in (starting, stopping):
            task.cancel()
        await asyncio.gather(starting, stopping, return_exceptions=True)


async def _start_all(
    supervisor: Supervisor, options: Options, engines: list[Part], own_s3: Path | None, reporter: Reporter
) -> None:
    begin = time.monotonic()
    root, state = options.root, supervisor.state
    values = services.environment(state, options.given)
    root.write_env(values)
    settings = services.settings_from(values)
    prepared = {name: asyncio.Event() for name in MODULES}

    async def start(part: Part) -> None:
        await supervisor.start(options.adapt(part, root, state))
        reporter.done(f"{part.title} is ready at {part.url}", time.monotonic() - begin)

    async def engine(name: str) -> None:
        members = [part for part in engines if kind_of(part.name) == name]
        await for_each(members, start, at_once=max(1, len(members)))
        await provision(name, settings, root, state, own_s3)
        prepared[name].set()
        if all(event.is_set() for event in prepared.values()):
            reporter.done("Topics, tables and bucket are there", time.monotonic() - begin)

    async def wait_for_engines(names: Iterable[str]) -> None:
        for name in names:
            await prepared[name].wait()

    def service(member: Member) -> Part:
        env = {**options.given, **values}
        return services.part(member, state, env, lambda: wait_for_engines(services.NEEDS[member.kind]))

    work = [partial(engine, name) for name in MODULES]
    if options.with_services:
        wanted = [member for member in options.parts if member.kind in services.NAMES]
        work += [partial(start, service(member)) for member in wanted]
    await for_each(work, lambda each: each(), at_once=len(work))
    if own_s3 is not None:
        await supervisor.start(s3.lifecycle_part(root, state, own_s3, options.given))
    if options.with_services:
        await supervisor.start(services.sweep_part({**options.given, **values}))


async def _end(supervisor: Supervisor, engines: list[str], reporter: Reporter) -> None:
    failed = supervisor.state.phase is Phase.FAILED
    if not failed:
        supervisor.set_phase(Phase.STOPPING)
    with reporter.step("Stopped"):
        # Services first: they finish their work while the engines still answer.
        await supervisor.stop_parts(supervisor.state.parts.keys() - set(engines))
        await supervisor.stop_parts(engines)
    supervisor.state.supervisor = None
    if not failed:
        supervisor.set_phase(Phase.STOPPED)
