"""The proxy holds back, delays and resets the connections that a fault is meant for, and no others."""

import socket
import socketserver
import threading
import time
from collections.abc import Iterator

import pytest

from tests.support.processes.tcp_proxy import Address, Proxy

SHORT = 0.3
LONG = 10.0


class Echo(socketserver.BaseRequestHandler):
    def handle(self) -> None:
        while data := self.request.recv(1024):
            self.request.sendall(data)


@pytest.fixture
def server() -> Iterator[Address]:
    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), Echo) as found:
        found.daemon_threads = True
        threading.Thread(target=found.serve_forever, daemon=True).start()
        host, port = found.server_address[:2]
        yield str(host), port
        found.shutdown()


@pytest.fixture
def proxy(server: Address) -> Iterator[tuple[Proxy, Address]]:
    found = Proxy(server)
    address = found.start()
    yield found, address
    found.stop()


def connected(address: Address) -> socket.socket:
    client = socket.create_connection(address, LONG)
    assert echo(client, b"hello") == b"hello"
    return client


def echo(client: socket.socket, data: bytes) -> bytes:
    client.sendall(data)
    return client.recv(1024)


def receive(address: Address) -> bytes:
    """What a new connection receives. A reset may arrive while it connects."""
    with socket.create_connection(address, LONG) as client:
        return client.recv(1024)


def is_silent(client: socket.socket) -> bool:
    """Whether nothing comes back within a short time."""
    client.settimeout(SHORT)
    try:
        return not echo(client, b"x")
    except TimeoutError:
        return True
    finally:
        client.settimeout(LONG)


def test_held_bytes_arrive_after_the_release(proxy: tuple[Proxy, Address]) -> None:
    old = connected(proxy[1])
    proxy[0].hold()
    new = socket.create_connection(proxy[1], LONG)
    assert is_silent(old)
    assert is_silent(new)
    proxy[0].release()
    assert old.recv(1024) == b"x"
    assert new.recv(1024) == b"x"


def test_delay_ends_with_the_release(proxy: tuple[Proxy, Address]) -> None:
    client = connected(proxy[1])
    proxy[0].delay(SHORT)
    began = time.monotonic()
    assert echo(client, b"slow") == b"slow"
    assert time.monotonic() - began >= 2 * SHORT
    proxy[0].release()
    began = time.monotonic()
    assert echo(client, b"fast") == b"fast"
    assert time.monotonic() - began < 2 * SHORT


def test_reset_ends_old_connections_and_refuses_new_ones(proxy: tuple[Proxy, Address]) -> None:
    old = connected(proxy[1])
    proxy[0].reset()
    with pytest.raises(ConnectionResetError):
        old.recv(1024)
    with pytest.raises(ConnectionError):
        receive(proxy[1])
    proxy[0].release()
    connected(proxy[1])


def test_fault_is_for_one_client_only(proxy: tuple[Proxy, Address]) -> None:
    one, other = connected(proxy[1]), connected(proxy[1])
    port = one.getsockname()[1]
    proxy[0].hold(lambda client: client == port)
    assert is_silent(one)
    assert echo(other, b"y") == b"y"
    proxy[0].release()
    assert one.recv(1024) == b"x"


def test_client_of_a_server_that_does_not_listen_is_disconnected() -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        gone = unused.getsockname()
    proxy = Proxy(gone)
    address = proxy.start()
    with pytest.raises(ConnectionError):
        receive(address)
    proxy.stop()
