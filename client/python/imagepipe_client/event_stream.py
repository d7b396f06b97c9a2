"""Follows server-sent events: parses them, and connects again with the position of the last event."""

import json
from dataclasses import dataclass, replace

import httpx

from imagepipe_client.documents import Event, Resync
from imagepipe_client.errors import ConnectionFailed, Problem, problem_of
from imagepipe_client.retrying import Retry, connection_failed
from imagepipe_client.steps import Emit, Request, Steps, Stream, next_chunk, open_stream, pause

SILENCE_SECONDS = 40.0
"""A connection without a byte for so long is lost: the gateway sends something every 15 seconds."""


@dataclass
class Message:
    """A block of a stream. `data` is None for a block that only has a position."""

    event: str = "message"
    data: str | None = None
    position: str | None = None
    retry: float | None = None
    """Seconds to wait before the next connection."""


class Parser:
    """Server-sent events from bytes, however the network has cut them.

    Only LF, CR and CRLF end a line. `httpx.Response.iter_lines` also breaks at characters such as U+2028, which may
    stand in the JSON of an event.
    """

    def __init__(self) -> None:
        self._pending = b""
        self._message = Message()

    def feed(self, data: bytes) -> list[Message]:
        """The messages that are complete after this data."""
        self._pending += data
        # A CR at the end may be the first half of a CRLF.
        whole = self._pending if not self._pending.endswith(b"\r") else self._pending[:-1]
        *lines, rest = whole.replace(b"\r\n", b"\n").replace(b"\r", b"\n").split(b"\n")
        self._pending = rest + self._pending[len(whole) :]
        complete = []
        for line in lines:
            if line:
                self._field(*line.decode(errors="replace").partition(":")[::2])
            else:
                complete.append(self._message)
                self._message = Message()
        return complete

    def _field(self, name: str, value: str) -> None:
        value = value.removeprefix(" ")
        message = self._message
        match name:
            case "event":
                message.event = value
            case "data":
                message.data = value if message.data is None else f"{message.data}\n{value}"
            case "id":
                message.position = value
            case "retry" if value.isdecimal():
                message.retry = int(value) / 1000


def opened(request: Request, read_timeout: float = SILENCE_SECONDS) -> Steps[None]:
    """Open a stream of events. Raises Problem and httpx.TransportError."""
    response = yield from open_stream(request, read_timeout)
    if not response.is_success:
        raise problem_of(response)


def resumed(request: Request, position: str | None) -> Request:
    """The request for the events after this position."""
    return replace(request, headers={**request.headers, "Last-Event-ID": position}) if position else request


class _Connections:
    """How often the client has connected in vain, and how long it waits before the next connection."""

    def __init__(self, retry: Retry) -> None:
        self._retry = retry
        self._failures = 0
        self._ever = False
        self.wanted: float | None = None
        """The pause that the gateway asked for."""

    def succeeded(self) -> None:
        self._failures = 0
        self._ever = True

    def pause_after(self, failure: Problem | ConnectionFailed | None) -> float:
        """Seconds to wait. Raises the failure if the client was never connected and has no attempts left."""
        self._failures += 1
        if failure and not self._ever and self._failures >= self._retry.attempts:
            raise failure
        asked = failure.retry_after if failure and failure.retry_after else self.wanted
        return self._retry.pause(self._failures, asked)


def follow(request: Request, retry: Retry, position: str | None) -> Stream[Event | Resync]:
    """Events without end, from now on or after a position.

    The first connection is tried as `retry` allows; after that, every interruption is followed by a new connection,
    until the caller stops. Raises Problem and ConnectionFailed.
    """
    connections = _Connections(retry)
    while True:
        failure: Problem | ConnectionFailed | None = None
        try:
            yield from opened(resumed(request, position))
            connections.succeeded()
            parser = Parser()
            while chunk := (yield from next_chunk()):
                for message in parser.feed(chunk):
                    position = message.position or position
                    connections.wanted = message.retry or connections.wanted
                    if message.data is not None and position is not None:
                        yield Emit(_item(message, position))
        except httpx.TransportError as error:
            failure = connection_failed(error)
        except Problem as problem:
            if not problem.is_temporary:
                raise
            failure = problem
        yield from pause(connections.pause_after(failure))


def _item(message: Message, position: str) -> Event | Resync:
    data = json.loads(message.data or "{}")
    if message.event == "resync":
        return Resync(position, str(data.get("reason", "")))
    return Event(message.event, data, position)


def current_position(request: Request) -> Steps[str]:
    """The position of a stream that begins now. Raises Problem and httpx.TransportError."""
    yield from opened(request)
    parser = Parser()
    while chunk := (yield from next_chunk()):
        for message in parser.feed(chunk):
            if message.position:
                return message.position
    raise httpx.RemoteProtocolError("the stream ended before its first position")
