"""What a benchmark runs on: a local stack that is up, or engines that answer. Without them it ends in one sentence."""

import signal
import socket
import sys
from collections.abc import Callable
from pathlib import Path
from urllib.parse import urlsplit

from deploy.local.state import Root, State
from ops.terminal.output import quieten_clients
from shared.errors import ConfigurationError, ImagepipeError, Unavailable
from shared.settings import Settings

CONNECT_SECONDS = 3.0


def run(main: Callable[[], None]) -> None:
    """Run a benchmark. An error that is raised on purpose becomes one sentence on stderr and exit code 1.

    SIGTERM ends it like Ctrl-C, so that what it has started is ended too.
    """
    quieten_clients()
    signal.signal(signal.SIGTERM, lambda number, _frame: sys.exit(128 + number))
    try:
        main()
    except ImagepipeError as error:
        sys.exit(f"✗ {error}")


def running_stack(root: Path) -> State:
    """State of the stack that runs under this directory. Raises ConfigurationError where there is none."""
    place = Root.at(root)
    state = place.load()
    if state is None or not place.is_supervised():
        raise ConfigurationError(f"no stack runs under {root}: start it with `imagepipe up --root {root}`")
    return state


def require_engines(settings: Settings, *names: str) -> None:
    """Raise Unavailable unless something listens at an address of each engine: `kafka`, `cassandra` or `s3`.

    A benchmark makes topics, a keyspace and a bucket first, and would remove them from engines that are not there.
    """
    for name in names:
        addresses = _addresses(settings, name)
        if addresses and not any(_listens(host, port) for host, port in addresses):
            where = ", ".join(f"{host}:{port}" for host, port in addresses)
            raise Unavailable(name, f"nothing listens at {where}: start a stack with `imagepipe up`")


def _addresses(settings: Settings, name: str) -> list[tuple[str, int]]:
    """Addresses of an engine; none for S3 where the endpoint is that of AWS."""
    if name == "kafka":
        servers = settings.kafka_bootstrap_servers.split(",")
        return [(host, int(port)) for host, _, port in (server.rpartition(":") for server in servers)]
    if name == "cassandra":
        return [(host, settings.cassandra_port) for host in settings.cassandra_contact_points]
    if settings.s3_endpoint_url is None:
        return []
    url = urlsplit(settings.s3_endpoint_url)
    return [(url.hostname or "", url.port or (443 if url.scheme == "https" else 80))]


def _listens(host: str, port: int) -> bool:
    try:
        socket.create_connection((host, port), CONNECT_SECONDS).close()
    except OSError:
        return False
    return True
