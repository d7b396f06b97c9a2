"""Connections of cassandra-driver on an asyncio event loop.

The driver's own connections belong to a thread of the driver. Each request and each response then changes threads,
which costs more CPU time than the rest of a small query.
"""

import asyncio
import contextlib
import ssl
from collections.abc import Callable
from threading import get_ident
from typing import Any, ClassVar

from cassandra.connection import Connection, ConnectionShutdown

RECEIVE_BYTES = 64 * 1024
"""Most bytes of one read. A TLS record is shorter, so no rest of one stays in the TLS layer, unseen by the loop."""
MAX_UNSENT_BYTES = 4 * 1024 * 1024
"""The driver sends nothing more to a node that has not read so many bytes. Each refused request costs it a stream."""
LATER = (BlockingIOError, InterruptedError, ssl.SSLWantReadError, ssl.SSLWantWriteError)
"""What a socket raises that has no data, or no space for data, at present."""


def connections_on(loop: asyncio.AbstractEventLoop) -> type["LoopConnection"]:
    """A class for `Cluster(connection_class=...)` whose connections use this loop. Call it in the loop's thread."""
    return type("LoopConnection", (LoopConnection,), {"loop": loop, "thread": get_ident()})


class LoopConnection(Connection):  # type: ignore[misc]
    """A connection that sends and receives in the thread of its event loop, where its callbacks run, too.

    The driver creates, uses and closes connections in any thread. It may never wait for a response in the thread of the
    loop: `Session.execute` would wait forever there, `execute_async` does not.
    """

    loop: ClassVar[asyncio.AbstractEventLoop]
    thread: ClassVar[int]
    is_closed: bool
    _socket_writable: bool

    def __init__(self, *args: Any, **options: Any) -> None:
        """Connect. Blocks, so the driver calls it in one of its own threads."""
        super().__init__(*args, **options)
        self._unsent: list[bytes] = []
        self._unsent_bytes = 0
        self._full = False
        """Whether the rest of a message waits for space in the socket's buffer."""
        self._connect_socket()
        self._socket.setblocking(False)
        self._descriptor: int = self._socket.fileno()
        self._on_loop(self._start)
        self._send_options_message()

    @classmethod
    def create_timer(cls, timeout: float, callback: Callable[[], object]) -> "_Timer":
        """See Connection.create_timer."""
        return _Timer(cls, timeout, callback)

    @classmethod
    def _on_loop(cls, function: Callable[[], object]) -> None:
        """Call a function in the thread of the loop. Raises ConnectionShutdown if the loop is closed."""
        try:
            cls.loop.call_soon_threadsafe(function)
        except RuntimeError as error:
            raise ConnectionShutdown("the event loop is closed") from error

    def push(self, data: bytes) -> None:
        """Send the bytes of a message. Those of one turn of the loop are sent together."""
        if get_ident() == self.thread:
            self._send(data)
        else:
            self._on_loop(lambda: self._send(data))

    def close(self) -> None:
        """See Connection.close."""
        with self.lock:
            if self.is_closed:
                return
            self.is_closed = True
        try:
            self._on_loop(self._stop)
        except ConnectionShutdown:
            self._socket.close()
        if not self.is_defunct:
            self.error_all_requests(ConnectionShutdown(f"Connection to {self.endpoint} was closed"))

    def _start(self) -> None:
        if not self.is_closed:
            self.loop.add_reader(self._descriptor, self._receive)

    def _stop(self) -> None:
        # Only here, so that the loop never watches a number that belongs to another socket by then.
        self.loop.remove_reader(self._descriptor)
        self.loop.remove_writer(self._descriptor)
        self._socket.close()

    def _receive(self) -> None:
        try:
            data = self._socket.recv(RECEIVE_BYTES)
        except LATER:
            return
        except OSError as error:
            self.defunct(error)
            return
        if not data:
            self.defunct(ConnectionShutdown(f"{self.endpoint} closed the connection"))
            return
        self._iobuf.write(data)
        self.process_io_buffer()

    def _process_segment_buffer(self) -> None:
        # The driver drops what it has of a header that has not arrived completely, and then fails at the next segment.
        if self._io_buffer.readable_io_bytes() < self._segment_codec.header_length_with_crc:
            self._io_buffer._segment_consumed = False
            self._io_buffer.io_buffer.seek(0)
        else:
            super()._process_segment_buffer()

    def _send(self, data: bytes) -> None:
        self._unsent.append(data)
        self._unsent_bytes += len(data)
        if self._full:
            self._socket_writable = self._unsent_bytes <= MAX_UNSENT_BYTES
        elif len(self._unsent) == 1:
            self.loop.call_soon(self._flush)

    def _flush(self) -> None:
        if self.is_closed:
            return
        data = b"".join(self._unsent)
        try:
            sent = self._socket.send(data)
        except LATER:
            sent = 0
        except OSError as error:
            self.defunct(error)
            return
        self._unsent.clear()
        self._unsent_bytes = len(data) - sent
        if self._unsent_bytes:
            self._unsent.append(data[sent:])
        if bool(self._unsent_bytes) != self._full:
            self._full = not self._full
            if self._full:
                self.loop.add_writer(self._descriptor, self._flush)
            else:
                self.loop.remove_writer(self._descriptor)
        self._socket_writable = self._unsent_bytes <= MAX_UNSENT_BYTES


class _Timer:
    """A timer that any thread may start and cancel."""

    def __init__(self, connections: type[LoopConnection], timeout: float, callback: Callable[[], object]) -> None:
        self._connections = connections
        self._handle: asyncio.TimerHandle | None = None
        self._cancelled = False
        if get_ident() == connections.thread:
            self._handle = connections.loop.call_later(timeout, callback)
        else:
            connections._on_loop(lambda: self._start(timeout, callback))

    def _start(self, timeout: float, callback: Callable[[], object]) -> None:
        if not self._cancelled:
            self._handle = self._connections.loop.call_later(timeout, callback)

    def cancel(self) -> None:
        """Do not call the callback, unless it has begun."""
        if get_ident() == self._connections.thread:
            self._stop()
        else:
            with contextlib.suppress(ConnectionShutdown):
                self._connections._on_loop(self._stop)

    def _stop(self) -> None:
        self._cancelled = True
        if self._handle is not None:
            self._handle.cancel()
