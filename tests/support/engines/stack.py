"""Real engines and services for the tests: one local stack per worker of a run, in a temporary directory, on free
ports.

Endpoints in the environment are used if there are any. Otherwise Kafka and Cassandra are containers if a Docker engine
answers, and the local stack's own if not; a cluster always has its own. The S3 server is always the local stack's own.
In each case the supervisor of `imagepipe up` provisions them and runs the services.
"""

import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

import psutil
from pydantic import SecretStr
from rich.console import Console

from deploy.local.cache import user_cache
from deploy.local.reporting import Reporter
from deploy.local.services import ENDPOINTS, settings_from
from deploy.local.stack import Options, fetch
from deploy.local.state import PartPhase, PartState, Root, State
from deploy.local.supervision import process
from deploy.local.supervision.process import TIED_TO
from deploy.local.topology import kind_of, members
from ops.stack.background import follow_until_ready
from shared.settings import Settings
from tests.support.engines.containers import docker_answers, engine_containers
from tests.support.isolation import unique_names
from tests.support.waiting import wait_for

PREFIX = "imagepipe-test-"
ABANDONED = timedelta(minutes=15)
"""Time since the last write to a root without a supervisor. A start may have to download an engine first."""
MEMORY_FILES = Path("/dev/shm")
NEEDED_FILES, NEEDED_MEMORY = 6 * 2**30, 12 * 2**30
"""Bytes: the data of two stacks, and their data and processes."""


@dataclass(frozen=True)
class Stack:
    """A running stack. `settings` are the services' own, `admin` the same with keys that may create buckets.

    Parts are named as their supervisor names them; in a cluster a kind's name means the first of the kind.
    """

    root: Root
    settings: Settings
    admin: Settings

    @property
    def base_url(self) -> str:
        """URL of the gateway."""
        url = self.state().gateway_url
        assert url is not None, "this stack was started without services"
        return url

    def state(self) -> State:
        """The supervisor's recorded state."""
        state = self.root.load()
        assert state is not None
        return state

    @property
    def gateways(self) -> tuple[str, ...]:
        """URL of each gateway."""
        return tuple(part.url for name, part in self.state().parts.items() if kind_of(name) == "gateway")

    def parts(self, *kinds: str) -> tuple[str, ...]:
        """Names of all parts of these kinds that this stack runs itself."""
        return tuple(name for name in self.state().parts if kind_of(name) in kinds)

    def part(self, name: str) -> PartState:
        """One part as the supervisor records it. Fails for an engine that this stack does not run itself."""
        state = self.state()
        return state.parts[name if name in state.parts else members(name, state.cluster)[0].name]

    def pid(self, name: str) -> int:
        """Pid of a running part."""
        child = self.part(name).process
        assert child is not None, f"{name} does not run"
        return child.pid

    def runs(self, name: str) -> bool:
        """Whether this stack runs the part itself, so that a test may kill it."""
        return bool(self.parts(kind_of(name)))

    def kill(self, name: str, number: signal.Signals = signal.SIGKILL) -> int:
        """Signal a part (its own process, not its children); returns its pid."""
        pid = self.pid(name)
        os.kill(pid, number)
        return pid

    def wait_restarted(self, name: str, old_pid: int, timeout: float = 60) -> int:
        """Wait until the part is ready again in another process; returns the new pid."""

        def restarted() -> int | None:
            part = self.part(name)
            ready = part.phase is PartPhase.READY and part.process is not None and part.process.pid != old_pid
            return part.process.pid if ready and part.process else None

        return wait_for(restarted, timeout, f"{name} ready again after pid {old_pid}")

    def wait_ready(self, name: str, timeout: float = 60) -> None:
        """Wait until the part is ready."""
        wait_for(lambda: self.part(name).phase is PartPhase.READY, timeout, f"{name} ready")


def fetch_engines() -> None:
    """Download, once per machine, the engines that `running_stack` will start."""
    given = any(os.environ.get(name) for name in ENDPOINTS.values())
    if given or not docker_answers():
        options = Options(Root(Path()), 0, with_services=False, given=os.environ)
        fetch(options.engines, user_cache(), Reporter(Console(highlight=False)))


@contextmanager
def running_stack(
    with_services: bool, cluster: bool = False, extra: Mapping[str, str] | None = None
) -> Iterator[Stack]:
    """A provisioned stack for this run, with `extra` in its environment; ended, and its data removed, at the end."""
    reporter = Reporter(Console(highlight=False))
    given = {**os.environ, **(extra or {})}
    wanted = not cluster and not any(given.get(name) for name in ENDPOINTS.values())
    with engine_containers(reporter, wanted) as endpoints, new_root() as root:
        given |= endpoints
        if any(given.get(name) for name in ENDPOINTS.values()):
            given = unique_names() | given
        arguments = [*([] if with_services else ["--engines"]), *(["--cluster"] if cluster else [])]
        with supervised(root, given, arguments, reporter) as state:
            yield stack_at(root, state)


@contextmanager
def new_root() -> Iterator[Root]:
    """A new root, removed at the end with all that is in it."""
    remove_abandoned(MEMORY_FILES, Path(tempfile.gettempdir()))
    root = Root(Path(tempfile.mkdtemp(prefix=PREFIX, dir=data_directory())))
    root.create()
    try:
        yield root
    finally:
        shutil.rmtree(root.path, ignore_errors=True)


def remove_abandoned(*directories: Path) -> None:
    """Remove the files of runs that were ended by Ctrl-C or a signal, because they would fill the memory."""
    for directory in directories:
        for path in directory.glob(f"{PREFIX}*"):
            with suppress(OSError):
                unused = time.time() - path.stat().st_mtime > ABANDONED.total_seconds()
                if unused and not Root(path).is_supervised():
                    shutil.rmtree(path)


def data_directory() -> str | None:
    """Directory for the engines' data: in memory if there is enough, because each write waits for its disk."""
    plenty = MEMORY_FILES.is_dir() and psutil.disk_usage(str(MEMORY_FILES)).free > NEEDED_FILES
    if plenty and psutil.virtual_memory().available > NEEDED_MEMORY:
        return str(MEMORY_FILES)
    return None


@contextmanager
def supervised(
    root: Root,
    given: Mapping[str, str],
    arguments: Sequence[str],
    reporter: Reporter,
    supervisor: str = "ops.stack.supervise",
) -> Iterator[State]:
    """A supervisor that does not outlive this process, however this one ends; gives its state once all is ready.

    Must run on the main thread.
    """
    options = Options(root, 0, with_services=False, given=given)
    fetch(options.engines, user_cache(), reporter)
    argv = [*TIED_TO, str(os.getpid()), sys.executable, "-m", supervisor]
    argv += ["--root", str(root.path), "--gateway-port", "0", *arguments]
    log = root.logs / "supervisor.log"
    with log.open("wb") as output:
        # JSON, so that tests can read what the services log.
        child = subprocess.Popen(
            argv, env={"LOG_FORMAT": "json", **given}, stdin=subprocess.DEVNULL, stdout=output, stderr=output
        )
    try:
        yield follow_until_ready(child, root, log, reporter)
    finally:
        child.terminate()
        with suppress(subprocess.TimeoutExpired):
            child.wait(90)
        end_leftovers(root)


def end_leftovers(root: Root) -> None:
    """End the processes that a supervisor has left which a test killed."""
    state = root.load()
    if state is not None:
        process.end(process.leftovers(state.stack_id), grace=10)


def stack_at(root: Root, state: State) -> Stack:
    """The running stack under this root."""
    values = root.read_env()
    # Processes of a test's own export no traces.
    settings = settings_from(values).model_copy(update={"otel_exporter_otlp_endpoint": None})
    admin = settings
    if "s3" in state.parts:
        own = state.secrets
        admin = settings.model_copy(
            update={"s3_access_key_id": own.s3_root_key, "s3_secret_access_key": SecretStr(own.s3_root_secret)}
        )
    return Stack(root, settings, admin)
