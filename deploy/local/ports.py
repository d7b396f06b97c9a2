"""Free TCP ports on the loopback interface, chosen once per stack."""

import errno
import random
import socket
from collections.abc import Iterable, Sequence

import psutil

from deploy.local.errors import StackError
from deploy.local.supervision.process import STACK_ROOT
from deploy.local.topology import host as loopback

LOOPBACK = loopback(1)

CHOICE = range(20_000, 32_000)
"""Below the ephemeral range (Linux starts at 32,768), so that no outgoing connection takes the port of an engine that
is just being restarted."""


def check_addresses(hosts: Iterable[str]) -> None:
    """Raise StackError unless a server could listen on these addresses: Linux has them all, macOS only the first."""
    for host in hosts:
        with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
            try:
                probe.bind((host, 0))
            except OSError as error:
                if error.errno != errno.EADDRNOTAVAIL:
                    raise
                raise StackError(
                    f"This machine has no address {host} on its loopback interface, where a part of the cluster would "
                    f"listen: add it (on macOS `sudo ifconfig lo0 alias {host}`), or leave --cluster out."
                ) from None


def is_free(port: int, hosts: Sequence[str] = (LOOPBACK,)) -> bool:
    """Whether a server could listen on this port of each of these addresses now."""
    return all(_is_free(host, port) for host in hosts)


def _is_free(host: str, port: int) -> bool:
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        # As servers do: a connection of an earlier run in TIME_WAIT does not make the port taken.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            if error.errno in (errno.EADDRINUSE, errno.EACCES):
                return False
            raise
    return True


def choose(taken: Iterable[int], hosts: Sequence[str] = (LOOPBACK,)) -> int:
    """A port that is free on each address and not in `taken`. Raises StackError when none is found."""
    avoid = set(taken)
    for port in random.sample(CHOICE, 500):
        if port not in avoid and is_free(port, hosts):
            return port
    raise StackError(f"No free port between {CHOICE.start} and {CHOICE.stop}: stop other programs and try again.")


def assign(names: Iterable[str], kept: dict[str, int], hosts: Sequence[str] = (LOOPBACK,)) -> dict[str, int]:
    """A port for each name: the kept one if it is still free, else another."""
    ports: dict[str, int] = {}
    for name in names:
        port = kept.get(name)
        if port is None or port in ports.values() or not is_free(port, hosts):
            port = choose({*ports.values(), *kept.values()}, hosts)
        ports[name] = port
    return ports


def gateway_port(
    wanted: int | None, kept: int | None, default: int, others: Iterable[int], hosts: Sequence[str] = (LOOPBACK,)
) -> int:
    """The gateway's port: as wanted (0: any free one), else as the last time, else the default.

    Raises StackError when the port is taken, naming who holds it where that can be seen.
    """
    if wanted == 0:
        return kept if kept is not None and is_free(kept, hosts) else choose(others, hosts)
    port = wanted or kept or default
    if not is_free(port, hosts):
        raise StackError(
            f"Port {port} is taken{_holder(port)}, or choose another port with --gateway-port N (0: any free one), for "
            'example `make up ARGS="--gateway-port 0"`.'
        )
    return port


def _holder(port: int) -> str:
    """The process that listens on the port, and how to stop it."""
    try:
        for connection in psutil.net_connections("tcp"):
            local = connection.laddr
            if connection.status == psutil.CONN_LISTEN and local and local.port == port and connection.pid:
                process = psutil.Process(connection.pid)
                if root := process.environ().get(STACK_ROOT):
                    return f" by the stack under {root}: stop it with `imagepipe down --root {root}`"
                return f" by {process.name()} (pid {connection.pid}): stop that program"
    except psutil.Error:
        pass  # Another user's socket cannot be inspected; the sentence is right without the name.
    return ": stop the program that listens there"
