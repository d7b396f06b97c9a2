"""`imagepipe up`: start the local stack, and keep it running or leave it in the background."""

import os
from typing import Annotated

import typer
from rich.console import Console

from deploy.local import stack
from deploy.local.errors import disk_errors
from deploy.local.reporting import Reporter
from deploy.local.state import Root, State
from deploy.local.supervision.logs import ConsoleSink
from ops.stack import background
from ops.stack.foreground import fetch, locked, serve
from ops.stack.welcome import welcome
from ops.terminal.options import DEFAULT_ROOT, StackRoot

GatewayPort = Annotated[
    int | None,
    typer.Option(
        min=0, max=65535, show_default="that of the last start, else 8000", help="Port of the gateway; 0: any free one."
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
    detach: Annotated[bool, typer.Option("--detach", "-d", help="Return when all parts are ready.")] = False,
    engines: Engines = False,
    cluster: Cluster = False,
    sample: Annotated[bool, typer.Option("--sample", help="Then upload a sample photo and show the answer.")] = False,
) -> None:
    """Start Kafka, Cassandra, S3 and the services, and keep them running until Ctrl-C.

    The first start downloads the engines; later ones take seconds. Each part that ends is started again with its data.
    Safe to run twice. An engine whose address is in the environment (KAFKA_BOOTSTRAP_SERVERS, CASSANDRA_CONTACT_POINTS,
    S3_ENDPOINT_URL) is used instead of started.
    """
    console = Console(highlight=False)
    reporter = Reporter(console)
    options = stack.Options(Root.at(root), gateway_port, not engines, dict(os.environ), cluster)
    with disk_errors(options.root.path):
        _up(options, detach, sample, reporter, console)


def _up(options: stack.Options, detach: bool, sample: bool, reporter: Reporter, console: Console) -> None:
    stack.check_shape(options)
    down = f"imagepipe down --root {options.root.path}; the data stays"
    if options.root.is_supervised():
        state = background.wait_until_ready(options.root, reporter)
        reporter.say(f"It runs already, under {options.root.path}.")
        welcome(reporter, options.root, state, sample=False, stop=down)
    elif detach:
        with locked(options.root) as lock:
            fetch(options, lock, reporter)
            state = background.start(options, lock, reporter)
        welcome(reporter, options.root, state, sample, stop=down)
    else:
        sink = ConsoleSink(console, hidden=True)

        def greet(state: State) -> None:
            welcome(reporter, options.root, state, sample, stop="Ctrl-C; the data stays")
            sink.reveal()

        with locked(options.root) as lock:
            serve(options, lock, reporter, sink.show, greet)
