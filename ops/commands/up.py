"""`imagepipe up`: start the local stack, and keep it running or leave it in the background."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from deploy.local import stack
from deploy.local.reporting import Reporter
from deploy.local.state import Root, State
from deploy.local.supervision.logs import ConsoleSink
from ops.stack import background
from ops.stack.foreground import fetch, locked, serve
from ops.terminal.options import DEFAULT_ROOT, StackRoot

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


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command()(up)


def up(
    root: StackRoot = DEFAULT_ROOT,
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
    options = stack.Options(Root.at(root), gateway_port, not engines, dict(os.environ), cluster)
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
