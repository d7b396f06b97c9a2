"""Listeners of live events, in a process of their own: what they cost delays neither the publisher nor the gateway.

The process waits for all connections with one epoll, and parses only what the figures need. A listener made of
coroutines costs more per event than the gateway does, so it would measure itself.
"""

import multiprocessing
import select
import socket
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from multiprocessing.connection import Connection
from typing import NamedTuple
from urllib.parse import urlsplit

import psutil

FRAME_START = b'\ndata: {"schema_version":1,"image_id":"'
ID_CHARACTERS = 36
READ_BYTES = 256 * 1024
CONNECT_SECONDS = 60.0
POLL_SECONDS = 0.2


class Received(NamedTuple):
    """When each event arrived at each of its listeners, by image id, and the listeners' CPU time in seconds.

    `ended` is the number of streams that the gateway has ended, for example because the listener was too slow.
    """

    times: dict[str, list[float]]
    ended: int
    cpu: float

    @property
    def frames(self) -> int:
        """Events that arrived, at all listeners together."""
        return sum(map(len, self.times.values()))


class Listening:
    """Running listeners."""

    def __init__(self, control: Connection) -> None:
        self._control = control

    def received(self) -> Received:
        """What has arrived until now."""
        self._control.send(None)
        found: Received = self._control.recv()
        return found


@contextmanager
def listening(base_url: str, paths: Sequence[str]) -> Iterator[Listening]:
    """One listener of each path, from the moment at which all streams have begun until the block ends."""
    spawning = multiprocessing.get_context("spawn")
    ours, theirs = spawning.Pipe()
    process = spawning.Process(target=_run, args=(theirs, base_url, paths), daemon=True)
    process.start()
    theirs.close()
    try:
        ours.recv()
        yield Listening(ours)
    finally:
        process.terminate()
        process.join()


def _run(control: Connection, base_url: str, paths: Sequence[str]) -> None:
    sockets = [_connected(base_url, path) for path in paths]
    control.send(None)
    cpu, loop = psutil.Process().cpu_times(), _Loop(sockets)
    while True:
        while not control.poll():
            loop.read()
        control.recv()
        now = psutil.Process().cpu_times()
        control.send(Received(loop.times, loop.ended, now.user + now.system - cpu.user - cpu.system))


def _connected(base_url: str, path: str) -> socket.socket:
    """A connection on which the stream has begun."""
    url = urlsplit(base_url)
    connection = socket.create_connection((url.hostname or "", url.port or 80), CONNECT_SECONDS)
    connection.sendall(f"GET {path} HTTP/1.1\r\nHost: bench\r\n\r\n".encode())
    head = b""
    while b"retry:" not in head:
        data = connection.recv(READ_BYTES)
        if not data:
            raise ConnectionError(f"GET {path} ended: {head.decode(errors='replace')}")
        head += data
    connection.setblocking(False)
    return connection


class _Loop:
    def __init__(self, sockets: Sequence[socket.socket]) -> None:
        self.times: dict[str, list[float]] = {}
        self.ended = 0
        self._sockets = {each.fileno(): each for each in sockets}
        self._held = dict.fromkeys(self._sockets, b"")
        self._epoll = select.epoll()
        for number in self._sockets:
            self._epoll.register(number, select.EPOLLIN)

    def read(self) -> None:
        """Read once from every connection that has data."""
        for number, _ in self._epoll.poll(POLL_SECONDS):
            data = self._sockets[number].recv(READ_BYTES)
            if data:
                self._note(number, data)
            else:
                self.ended += 1
                self._epoll.unregister(number)

    def _note(self, number: int, data: bytes) -> None:
        """Note the events that are complete up to their id. The rest is held for the next read."""
        now = time.perf_counter()
        data = self._held[number] + data
        start = data.find(FRAME_START)
        while start >= 0 and (end := data.find(b"\nid: ", start)) >= 0:
            begin = start + len(FRAME_START)
            self.times.setdefault(data[begin : begin + ID_CHARACTERS].decode(), []).append(now)
            start = data.find(FRAME_START, end)
        # Without a begun event, the start of one may be split between two reads.
        self._held[number] = data[start if start >= 0 else 1 - len(FRAME_START) :]
