"""A TCP proxy on loopback that holds back, delays or drips what it forwards and resets connections, as networks do."""

import asyncio
import socket
import struct
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from urllib.parse import urlsplit

BLOCK = 64 * 1024
DRIP_BYTES = 4096
Address = tuple[str, int]
Meant = Callable[[int], bool]
"""Whether a fault is meant for the client with this port. It may block."""


def every_client(_port: int) -> bool:
    """A fault for all clients."""
    return True


@dataclass(eq=False)
class _Connection:
    """One client's connection. `flowing` is cleared while nothing is forwarded; `delay` in seconds, for each block."""

    client: asyncio.StreamWriter
    flowing: asyncio.Event = field(default_factory=asyncio.Event)
    delay: float = 0.0
    server: asyncio.StreamWriter | None = None

    @property
    def port(self) -> int:
        return int(self.client.get_extra_info("peername")[1])

    def reset(self) -> None:
        for writer in filter(None, (self.client, self.server)):
            # Closing a socket that must not linger sends RST instead of FIN.
            with suppress(OSError):
                connected = writer.get_extra_info("socket")
                connected.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            writer.transport.abort()


class Proxy:
    """Forwards to one server. Its methods may be called from any thread.

    A fault applies to the connections that exist and to new ones, until `release`.
    """

    def __init__(self, target: Address, listen: Address = ("127.0.0.1", 0)) -> None:
        self._target = target
        self._listen_on = listen
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._server: asyncio.Server | None = None
        self._connections: set[_Connection] = set()
        self._fault: Callable[[_Connection], None] = lambda _: None
        self._meant: Meant | None = None
        self._bytes_per_second: int | None = None

    def start(self) -> Address:
        """Listen; the address to use instead of the target's."""
        self._thread.start()
        return asyncio.run_coroutine_threadsafe(self._listen(), self._loop).result(10)

    def hold(self, meant: Meant = every_client) -> None:
        """Forward nothing more: connections stay open, new ones are accepted, and no response arrives."""
        self._apply(lambda connection: connection.flowing.clear(), meant)

    def delay(self, seconds: float, meant: Meant = every_client) -> None:
        """Forward each block this much later, in both directions."""

        def slow(connection: _Connection) -> None:
            connection.delay = seconds

        self._apply(slow, meant)

    def reset(self, meant: Meant = every_client) -> None:
        """Reset the connections."""
        self._apply(_Connection.reset, meant)

    def drip(self, bytes_per_second: int) -> None:
        """Forward no faster than this, in either direction of each connection."""
        self._bytes_per_second = bytes_per_second

    def release(self) -> None:
        """Forward again, beginning with the bytes that were held back."""
        self._bytes_per_second = None
        asyncio.run_coroutine_threadsafe(self._release(), self._loop).result(10)

    def stop(self) -> None:
        """Close every connection."""
        asyncio.run_coroutine_threadsafe(self._close(), self._loop).result(10)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)
        self._loop.close()

    def _apply(self, fault: Callable[[_Connection], None], meant: Meant) -> None:
        asyncio.run_coroutine_threadsafe(self._begin(fault, meant), self._loop).result(30)

    async def _begin(self, fault: Callable[[_Connection], None], meant: Meant) -> None:
        self._fault, self._meant = fault, meant
        for connection in list(self._connections):
            await self._strike(connection)

    async def _strike(self, connection: _Connection) -> None:
        """Apply the current fault to a connection that it is meant for."""
        if self._meant is not None and await asyncio.to_thread(self._meant, connection.port):
            self._fault(connection)

    async def _release(self) -> None:
        self._meant = None
        for connection in self._connections:
            connection.delay = 0.0
            connection.flowing.set()

    async def _listen(self) -> Address:
        self._server = await asyncio.start_server(self._serve, *self._listen_on)
        host, port = self._server.sockets[0].getsockname()
        return host, port

    async def _close(self) -> None:
        assert self._server is not None
        self._server.close()
        others = asyncio.all_tasks() - {asyncio.current_task()}
        for task in others:
            task.cancel()
        await asyncio.gather(*others, return_exceptions=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        connection = _Connection(writer)
        connection.flowing.set()
        self._connections.add(connection)
        try:
            await self._strike(connection)
            await connection.flowing.wait()
            there_reader, connection.server = await asyncio.open_connection(*self._target)
            async with asyncio.TaskGroup() as ways:
                ways.create_task(self._forward(connection, reader, connection.server))
                ways.create_task(self._forward(connection, there_reader, writer))
        except* OSError:
            # One side has reset its connection, or the server does not listen: the other side must see it too.
            connection.reset()
        finally:
            self._connections.discard(connection)
            for each in filter(None, (writer, connection.server)):
                each.close()

    async def _forward(
        self, connection: _Connection, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        while data := await reader.read(DRIP_BYTES if self._bytes_per_second else BLOCK):
            await asyncio.sleep(connection.delay)
            if self._bytes_per_second:
                await asyncio.sleep(len(data) / self._bytes_per_second)
            await connection.flowing.wait()
            writer.write(data)
            await writer.drain()
        with suppress(OSError):
            writer.write_eof()


@contextmanager
def proxy_to(target_url: str) -> Iterator[tuple[Proxy, str]]:
    """A running proxy and its URL."""
    address = urlsplit(target_url)
    proxy = Proxy((address.hostname or "", address.port or 80))
    host, port = proxy.start()
    try:
        yield proxy, f"http://{host}:{port}"
    finally:
        proxy.stop()
