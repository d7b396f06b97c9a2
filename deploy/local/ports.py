"""Free TCP ports on the loopback interface, chosen once per stack."""

import errno
import random
import socket
from collections.abc import Iterable

import psutil

from deploy.local.errors import StackError

LOOPBACK = "127.0.0.1"

CHOICE = range(20_000, 32_000)
"""Below the ephemeral range (Linux starts at 32,768), so that no outgoing connection takes the port of an engine that
is just being restarted."""


def is_free(port: int) -> bool:
    """Whether a server could listen on this port of the loopback interface now."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        # As servers do: connections in TIME_WAIT of an earlier run must not count as taken.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((LOOPBACK, port))
        except OSError as error:
            if error.errno in (errno.EADDRINUSE, errno.EACCES):
                return False
            raise
    return True


def choose(taken: Iterable[int]) -> int:
    """A free port that is not in `taken`. Raises StackError when none is found."""
    avoid = set(taken)
    for port in random.sample(CHOICE, 500):
        if port not in avoid and is_free(port):
            return port
    raise StackError(f"No free port between {CHOICE.start} and {CHOICE.stop}: stop other programs and try again.")


def assign(names: Iterable[str], kept: dict[str, int]) -> dict[str, int]:
    """A port for each name: the kept one if it is still free, else another."""
    ports: dict[str, int] = {}
    for name in names:
        port = kept.get(name)
        if port is None or port in ports.values() or not is_free(port):
            port = choose({*ports.values(), *kept.values()})
        ports[name] = port
    return ports


def gateway_port(wanted: int | None, kept: int | None, default: int, others: Iterable[int]) -> int:
    """The gateway's port: as wanted (0: any free one), else as the last time, else the default.

    Raises StackError when the port is taken, naming who holds it where that can be seen.
    """
    if wanted == 0:
        return kept if kept is not None and is_free(kept) else choose(others)
    port = wanted or kept or default
    if not is_free(port):
        holder = _holder(port)
        raise StackError(
            f"Port {port} is taken{f' by {holder}' if holder else ''}: stop that program, or choose another port with "
            f"--gateway-port N (0: any free one)."
        )
    return port


def _holder(port: int) -> str | None:
    try:
        for connection in psutil.net_connections("tcp"):
            local = connection.laddr
            if connection.status == psutil.CONN_LISTEN and local and local.port == port and connection.pid:
                return f"{psutil.Process(connection.pid).name()} (pid {connection.pid})"
    except psutil.Error:
        return None  # Other users' sockets cannot be looked into; the sentence is right without the name.
    return None
