"""`imagepipe up` and `imagepipe down`: start and stop the local stack."""

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import IO, Annotated

import typer
from rich.console import Console

from deploy.local import stack
from deploy.local.cache import user_cache
from deploy.local.errors import StackError
from deploy.local.reporting import Reporter
from deploy.local.state import Phase, ProcessRef, Root, State
from deploy.local.supervision import process
from deploy.local.supervision.logs import ConsoleSink, Sink
from ops.stack import background
from ops.terminal.options import DEFAULT_ROOT, RootOption, root_at

GatewayPort = Annotated[
    int | None,
    typer.Option(
        min=0, max=65535, show_default="as the last time, else 8000", help="Port of the gateway; 0: any free one."
    ),
]
Engines = Annotated[
    bool,
    typer.Option(
        "--engines", help="Start and prepare Kafka, Cassandra and S3 only; run the services yourself with ROOT/env."
    ),
]
Cluster = Annotated[
    bool,
    typer.Option(
        "--cluster",
        help="Three Kafka brokers, three Cassandra nodes and two of each service, any of which may fail: about 4 GB of "
        "memory. The n-th of each listens on 127.0.0.n.",
    ),
]
STOP_PATIENCE = 90.0
"""Seconds that `down` waits for an orderly end: services' grace, then engines'."""


def register(app: typer.Typer) -> None:
    """Add the commands."""
    app.command()(up)
    app.command()(down)


def up(
    root: RootOption = DEFAULT_ROOT,
    gateway_port: GatewayPort = None,
    detach: Annotated[bool, typer.Option("--detach", "-d", help="Return when the gateway serves.")] = False,
    engines: Engines = False,
    cluster: Cluster = False,
    sample: Annotated[bool, typer.Option("--sample", help="Then upload a sample photo and show the answer.")] = False,
) -> None:
    """Start Kafka, Cassandra, S3 and the services, and keep them running until Ctrl-C.

    The first start downloads and builds the engines (minutes); later ones take seconds. Each part that ends is started
    again with its data. Safe to run twice. An engine whose address is in the environment (KAFKA_BOOTSTRAP_SERVERS,
    CASSANDRA_CONTACT_POINTS, S3_ENDPOINT_URL) is used instead of started.
    """
    console = Console(highlight=False)
    reporter = Reporter(console)
    options = stack.Options(root_at(root), gateway_port, not engines, dict(os.environ), cluster)
    stack.check_shape(options)
    if options.root.is_supervised():
        state = background.wait_until_ready(options.root, reporter)
        reporter.say(f"It runs already, under {options.root.path}.")
        show_urls(reporter, options.root, state)
    elif detach:
        with locked(options.root) as lock:
            fetch(options, lock, reporter)
            state = background.start(options, lock, reporter)
        greet(reporter, options, state, sample)
    else:
        sink = ConsoleSink(console)
        with locked(options.root) as lock:
            serve(options, lock, reporter, sink.show, lambda state: greet(reporter, options, state, sample))


def locked(root: Root) -> IO[str]:
    """The root's lock, held until the file is closed; the directory is made. Raises StackError."""
    root.path.mkdir(parents=True, exist_ok=True, mode=0o700)
    lock = root.try_lock()
    if lock is None:
        raise StackError(f"A stack under {root.path} is just being started by another `imagepipe up`.")
    return lock


def fetch(options: stack.Options, lock: IO[str], reporter: Reporter) -> dict[str, Path]:
    """Programs and jars of the engines. `down` finds this process meanwhile; its SIGTERM is as Ctrl-C.

    Raises StackError.
    """
    options.root.name_holder(lock, process.reference(os.getpid()))
    usual = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        return stack.fetch(options.engines, user_cache(), reporter)
    except KeyboardInterrupt:
        raise StackError("Interrupted; what was downloaded whole is kept.") from None
    finally:
        signal.signal(signal.SIGTERM, usual)


def serve(
    options: stack.Options, lock: IO[str], reporter: Reporter, sink: Sink, when_ready: Callable[[State], None]
) -> None:
    """Start the stack in this process, which holds the lock, and keep it running until a signal comes.

    Raises StackError.
    """
    found = fetch(options, lock, reporter)
    state = stack.prepare(options, reporter)
    asyncio.run(stack.run(options, state, found, reporter, sink, when_ready))


def greet(reporter: Reporter, options: stack.Options, state: State, sample: bool) -> None:
    """Say what runs where; with `sample`, show a first upload."""
    if sample and state.gateway_url:
        upload_sample(reporter, state.gateway_url)
    show_urls(reporter, options.root, state)


def upload_sample(reporter: Reporter, gateway_url: str) -> None:
    """Upload the sample photo with the example client, and show what it prints."""
    photo = Path(__file__).parents[2] / "client" / "sample.jpg"
    argv = [sys.executable, "-m", "client.example", "--base-url", gateway_url, "upload", str(photo)]
    with reporter.step("Uploaded a sample photo with client/example.py"):
        result = subprocess.run(argv, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
    for line in result.stdout.splitlines():
        reporter.say(f"  {line}")
    if result.returncode != 0:
        reporter.warn(f"The example client ended with exit code {result.returncode}; `imagepipe logs` may say why.")


def show_urls(reporter: Reporter, root: Root, state: State) -> None:
    """Where everything is."""
    reporter.say("")
    if state.gateway_url:
        reporter.say(f"  Gateway     {state.gateway_url}   (API: {state.gateway_url}/docs)")
    for name, part in state.parts.items():
        if part.url and part.url != state.gateway_url:
            reporter.say(f"  {name:<11} {part.url}")
    reporter.say(f"  Settings    {root.env_file}   (set -a; . {root.env_file})")
    reporter.say(f"  Logs        {root.logs}")


def down(
    root: RootOption = DEFAULT_ROOT,
    delete_data: Annotated[bool, typer.Option("--delete-data", help="Also remove data, logs, ports, secrets.")] = False,
) -> None:
    """Stop what `up` started under this root, and nothing else."""
    reporter = Reporter(Console(highlight=False))
    place = root_at(root)
    try:
        state = place.load()
    except StackError:
        if not delete_data or place.is_supervised():
            raise
        state = None
    if not _stop(place, state, reporter):
        reporter.say(f"No stack under {place.path}." if state is None else f"Nothing runs under {place.path}.")
    if delete_data and place.path.exists():
        with locked(place):
            place.delete()
        reporter.say(f"Removed the stack's data under {place.path}.")


def _stop(root: Root, state: State | None, reporter: Reporter) -> bool:
    """Whether there was something to stop. Raises StackError where the supervisor cannot be told."""
    reference = _supervisor(root, state)
    supervisor = process.find(reference)
    if supervisor is not None and reference is not None:
        with reporter.step("Services and engines ended in order" if state else "The start was ended"):
            supervisor.terminate()
            if not process.wait_until_gone(reference, STOP_PATIENCE):
                supervisor.kill()
    # The unreadable state that `--delete-data` removes tells of no processes.
    last = (root.load() if supervisor else None) or state
    left = process.leftovers(last.stack_id) if last else []
    if left:
        process.end(left, grace=10)
        reporter.say(f"Ended {len(left)} processes that had lost their supervisor.")
    if last:
        last.supervisor, last.phase = None, Phase.STOPPED
        root.save(last)
    return bool(supervisor or left)


def _supervisor(root: Root, state: State | None) -> ProcessRef | None:
    """Who keeps this root running, or downloads for it; None where nobody does."""
    if not root.is_supervised():
        return None
    # The state alone names it where an earlier version has started it.
    reference = root.holder() or (state.supervisor if state else None)
    if process.find(reference) is None and root.is_supervised():
        raise StackError(
            f"An `imagepipe up` under {root.path} is just starting or ending: try again in a moment. If it stays, "
            f"`fuser {root.lock_file}` names its process."
        )
    return reference
