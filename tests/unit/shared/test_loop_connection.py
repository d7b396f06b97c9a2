"""Connections of the driver on an event loop, with a socket pair in place of a node."""

import asyncio
import io
import socket
import struct
import threading
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from cassandra.connection import ConnectionShutdown, segment_codec_no_compression

from shared.cassandra.loop_connection import MAX_UNSENT_BYTES, LoopConnection, connections_on
from tests.support.waiting import wait_for_async

pytestmark = pytest.mark.timeout(60)

LARGE = 8 * 1024 * 1024
"""Bytes of a message: more than the buffers of both sockets."""
SOON = 0.01


class Node:
    """Connections to this end of a socket pair. The first message of the driver is not sent."""

    def __init__(self) -> None:
        self.end, other = socket.socketpair()
        self.end.setblocking(False)

        class Paired(connections_on(asyncio.get_running_loop())):  # type: ignore[misc]
            received = b""
            frames = False
            """Whether received bytes are parsed as frames of the protocol, whose bodies are kept."""

            def _connect_socket(self) -> None:
                self._socket = other

            def _send_options_message(self) -> None:
                pass

            def process_io_buffer(self) -> None:
                if self.frames:
                    super().process_io_buffer()
                else:
                    self.received = self._iobuf.getvalue()

            def process_msg(self, header: object, body: bytes) -> None:
                self.received += body

        self.connect = Paired

    async def read(self, size: int) -> bytes:
        """The next bytes that the connection has sent."""
        found = b""
        while len(found) < size:
            found += await asyncio.get_running_loop().sock_recv(self.end, size - len(found))
        return found


@pytest.fixture
async def node() -> AsyncIterator[Node]:
    found = Node()
    yield found
    found.end.close()


async def opened(node: Node) -> Any:
    return await asyncio.to_thread(node.connect, "node")


async def test_messages_of_all_threads_are_sent_in_order(node: Node) -> None:
    connection = await opened(node)
    connection.push(b"a1")
    connection.push(b"a2")
    assert await node.read(4) == b"a1a2"
    await asyncio.to_thread(lambda: [connection.push(b"b%d" % number) for number in range(3)])
    assert await node.read(6) == b"b0b1b2"
    connection.close()


async def test_a_full_socket_is_busy_until_the_node_reads(node: Node) -> None:
    connection = await opened(node)
    connection.push(bytes(LARGE))
    connection.push(b"next")
    await wait_for_async(lambda: not connection._socket_writable, 10, "the socket is full", pause=SOON)
    await asyncio.to_thread(connection.push, b"last")
    assert await node.read(LARGE + 8) == bytes(LARGE) + b"nextlast"
    await wait_for_async(lambda: connection._socket_writable, 10, "the socket has space", pause=SOON)
    connection.push(b"more")
    assert await node.read(4) == b"more"
    connection.close()


async def test_bytes_of_the_node_are_received_in_the_thread_of_the_loop(node: Node) -> None:
    connection = await opened(node)
    node.end.send(b"response")
    await wait_for_async(lambda: connection.received == b"response", 10, "the response", pause=SOON)
    connection.close()


def segment_of(body: bytes) -> bytes:
    """A message of version 5 of the protocol, in a segment of its own."""
    segment = io.BytesIO()
    segment_codec_no_compression.encode(segment, struct.pack(">BBhBi", 0x85, 0, 1, 8, len(body)) + body)
    return segment.getvalue()


async def test_messages_may_arrive_in_pieces_of_any_size(node: Node) -> None:
    bodies = [b"first", b"second " * 5]
    data = b"".join(map(segment_of, bodies))
    for cut in range(1, len(data)):
        connection = await asyncio.to_thread(node.connect, "node")
        connection.frames = True
        connection._enable_checksumming()
        for part in (data[:cut], data[cut:]):
            connection._iobuf.write(part)
            connection.process_io_buffer()
        assert connection.received == b"".join(bodies), cut
        assert not connection.is_defunct


async def test_a_socket_that_is_full_for_a_moment_is_not_busy(node: Node) -> None:
    connection = await opened(node)
    connection.push(bytes(MAX_UNSENT_BYTES))
    await wait_for_async(lambda: connection._full, 10, "the socket is full", pause=SOON)
    assert connection._socket_writable
    assert await node.read(MAX_UNSENT_BYTES) == bytes(MAX_UNSENT_BYTES)
    connection.close()


async def failure_of(connection: Any) -> asyncio.Future[Exception]:
    """The error of a request that is in progress. It may be set in any thread."""
    loop = asyncio.get_running_loop()
    failed: asyncio.Future[Exception] = loop.create_future()
    connection._requests[1] = (lambda error: loop.call_soon_threadsafe(failed.set_result, error), None, None)
    return failed


async def test_a_node_that_closes_the_connection_fails_its_requests(node: Node) -> None:
    connection = await opened(node)
    failed = await failure_of(connection)
    node.end.close()
    assert isinstance(await asyncio.wait_for(failed, 10), ConnectionShutdown)
    assert connection.is_defunct
    with pytest.raises(ConnectionShutdown):
        connection.send_msg(None, 2, None)


@pytest.mark.parametrize("elsewhere", [False, True], ids=["loop", "thread"])
async def test_closing_fails_the_requests_and_closes_the_socket(node: Node, elsewhere: bool) -> None:
    connection = await opened(node)
    failed = await failure_of(connection)
    if elsewhere:
        await asyncio.to_thread(connection.close)
    else:
        connection.close()
    connection.close()
    assert isinstance(await asyncio.wait_for(failed, 10), ConnectionShutdown)
    assert await asyncio.get_running_loop().sock_recv(node.end, 1) == b""


async def test_timers_start_and_end_in_any_thread(node: Node) -> None:
    fired: list[tuple[str, int]] = []

    def timer(name: str) -> Any:
        return node.connect.create_timer(0.05, lambda: fired.append((name, threading.get_ident())))

    kept = [timer("loop"), await asyncio.to_thread(timer, "thread")]
    timer("dropped").cancel()
    (await asyncio.to_thread(timer, "dropped")).cancel()
    await asyncio.to_thread(timer("dropped").cancel)
    await asyncio.to_thread(lambda: timer("dropped").cancel())
    await asyncio.sleep(0.2)
    assert sorted(fired) == [("loop", threading.get_ident()), ("thread", threading.get_ident())]
    for each in kept:
        each.cancel()


def test_without_its_loop_a_connection_is_shut_down() -> None:
    async def open_one() -> tuple[Node, Any]:
        node = Node()
        return node, await opened(node)

    loop = asyncio.new_event_loop()
    node, connection = loop.run_until_complete(open_one())
    timer = node.connect.create_timer(60, lambda: None)
    loop.close()
    with ThreadPoolExecutor(1) as thread:
        with pytest.raises(ConnectionShutdown, match="event loop is closed"):
            thread.submit(node.connect.create_timer, 1, print).result()
        with pytest.raises(ConnectionShutdown, match="event loop is closed"):
            thread.submit(connection.push, b"late").result()
        thread.submit(timer.cancel).result()
        thread.submit(connection.close).result()
    assert connection._socket.fileno() == -1
    node.end.close()


def test_each_loop_has_connections_of_its_own() -> None:
    loops = [asyncio.new_event_loop() for _ in range(2)]
    classes = [connections_on(loop) for loop in loops]
    assert [each.loop for each in classes] == loops
    assert all(issubclass(each, LoopConnection) for each in classes)
    for loop in loops:
        loop.close()
