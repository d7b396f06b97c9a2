"""Which ports a local stack takes, and what it reports about ports that it cannot have."""

import errno
import os
import socket
import subprocess
import sys
from contextlib import ExitStack

import pytest

from deploy.local import ports
from deploy.local.errors import StackError
from deploy.local.supervision.process import STACK_ROOT
from deploy.local.topology import hosts


def test_kept_port_is_used_again_and_a_taken_one_replaced() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        taken = server.getsockname()[1]
        assert not ports.is_free(taken)
        free = ports.choose([])
        chosen = ports.assign(["a", "b", "c"], {"a": free, "b": taken})
    assert chosen["a"] == free
    assert taken not in chosen.values()
    assert len(set(chosen.values())) == 3


def test_taken_gateway_port_is_reported_with_the_option_to_change_it() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        taken = server.getsockname()[1]
        with pytest.raises(StackError, match=f"Port {taken} is taken by .*pid {os.getpid()}.*--gateway-port N"):
            ports.gateway_port(taken, None, 8000, [])
        assert ports.gateway_port(0, taken, 8000, []) != taken
    assert ports.gateway_port(None, taken, 8000, []) == taken


@pytest.mark.skipif(sys.platform != "linux", reason="other systems have no address 127.0.0.3 by default")
def test_port_must_be_free_on_every_address() -> None:
    # Another program may use a port of one address on the other ones, so more than one is tried.
    with ExitStack() as open_servers:
        servers = [open_servers.enter_context(socket.create_server(("127.0.0.3", 0))) for _ in range(20)]
        taken = [server.getsockname()[1] for server in servers]
        assert any(ports.is_free(port, hosts(cluster=False)) for port in taken)
        assert not any(ports.is_free(port, hosts(cluster=True)) for port in taken)


def test_missing_loopback_address_is_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    def bind(_socket: socket.socket, address: tuple[str, int]) -> None:
        if address[0] != ports.LOOPBACK:
            raise OSError(errno.EADDRNOTAVAIL, "Can't assign requested address")

    monkeypatch.setattr(socket.socket, "bind", bind, raising=False)
    ports.check_addresses(hosts(cluster=False))
    with pytest.raises(StackError, match=r"no address 127\.0\.0\.2.*ifconfig lo0 alias 127\.0\.0\.2.*--cluster"):
        ports.check_addresses(hosts(cluster=True))


LISTENING = """
import socket
with socket.create_server(("127.0.0.1", 0)) as server:
    print(server.getsockname()[1], flush=True)
    server.accept()
"""


def test_port_of_another_stack_is_reported_with_its_directory() -> None:
    env = {**os.environ, STACK_ROOT: "/there/.imagepipe"}
    with subprocess.Popen([sys.executable, "-c", LISTENING], env=env, stdout=subprocess.PIPE, text=True) as gateway:
        assert gateway.stdout is not None
        port = int(gateway.stdout.readline())
        try:
            with pytest.raises(StackError) as caught:
                ports.gateway_port(port, None, 8000, [])
        finally:
            gateway.kill()
    assert str(caught.value) == (
        f"Port {port} is taken by the stack under /there/.imagepipe: stop it with `imagepipe down --root "
        "/there/.imagepipe`, or choose another port with --gateway-port N (0: any free one), for example "
        '`make up ARGS="--gateway-port 0"`.'
    )
