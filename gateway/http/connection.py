"""The HTTP/1.1 protocol of the public port: uvicorn's protocol on httptools, with limits and strict framing.

uvicorn's class does the reading, the writing, the backpressure and the graceful end. This module adds:

- A connection that sends no complete request head in time is closed (invariant 11), and the longest idle connection is
  closed first if there are too many.
- A request head has a size limit. Trailers are dropped: uvicorn would add them to the headers of a running request.
- A client that reads nothing of its response for STALL_SECONDS is disconnected.
- What llhttp accepts although it is ambiguous is refused: no Host or two, and a transfer coding other than `chunked`.
- An invalid request gets a problem document with a request id and a log line, as every other request.
"""

import asyncio
import functools
from collections import OrderedDict
from contextlib import suppress
from typing import Any, cast

import httptools
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle

from gateway.http.access_log import AccessLog
from gateway.http.errors import error_response, problem_of
from gateway.http.problems import Problem
from gateway.http.response_writer import ResponseWriter

MAX_HEAD_BYTES = 64 * 1024
"""Bytes of a request line with its headers. Proxies send at most 8 to 32 KiB."""
STALL_SECONDS = 60.0
"""How long a client may take no byte of a response, as in nginx (`send_timeout`). The kernel accepts the next
bytes when a third of its buffer is free, so a slow client can need most of this time for them."""
LINGER_SECONDS = 1.0
"""How long the gateway drops what still arrives after an invalid request. If it closed the connection with unread
bytes, the kernel would send a reset, which can reach the client before the response."""


class Connections:
    """The open connections of one server, and which of them are idle: they have no request in progress."""

    def __init__(self, most: int, idle_seconds: float) -> None:
        self._most = most
        self._idle_seconds = idle_seconds
        self._open: set[Connection] = set()
        # Longest idle first: all have the same time-out, so one timer for the first is enough.
        self._idle_since: OrderedDict[Connection, float] = OrderedDict()
        self._timer: asyncio.TimerHandle | None = None

    def opened(self, connection: "Connection") -> None:
        """Count a new connection. If there are too many, close the longest idle one."""
        self._open.add(connection)
        self.idle(connection)
        while len(self._open) > self._most and self._idle_since:
            longest_idle, _ = self._idle_since.popitem(last=False)
            self._open.discard(longest_idle)
            longest_idle.transport.abort()

    def idle(self, connection: "Connection") -> None:
        """Start the connection's time-out: it was opened now, or its last response is complete."""
        if connection in self._open:
            self._idle_since[connection] = asyncio.get_running_loop().time()
            self._schedule()

    def busy(self, connection: "Connection") -> None:
        """End the connection's time-out: a request is in progress."""
        self._idle_since.pop(connection, None)

    def closed(self, connection: "Connection") -> None:
        """Forget a connection."""
        self.busy(connection)
        self._open.discard(connection)

    def _schedule(self) -> None:
        if self._timer is None and self._idle_since:
            oldest = next(iter(self._idle_since.values()))
            self._timer = asyncio.get_running_loop().call_at(oldest + self._idle_seconds, self._expire)

    def _expire(self) -> None:
        self._timer = None
        limit = asyncio.get_running_loop().time() - self._idle_seconds
        while self._idle_since and next(iter(self._idle_since.values())) <= limit:
            connection, _ = self._idle_since.popitem(last=False)
            if connection.time_out():
                self.idle(connection)
        self._schedule()


class Connection(HttpToolsProtocol):
    """One connection. `open_connections` and `base_url` are the server's."""

    def __init__(self, *args: Any, open_connections: Connections, base_url: str, **options: Any) -> None:
        super().__init__(*args, **options)
        self._open_connections = open_connections
        self._base_url = base_url
        self._in_head = False
        self._head_bytes = 0
        self._bytes_without_progress = 0
        self._refused = False
        self._broken_body: tuple[RequestResponseCycle, Problem] | None = None
        self._unsent = 0
        self._reading: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """See asyncio.Protocol."""
        super().connection_made(transport)
        self._open_connections.opened(self)

    def connection_lost(self, exc: Exception | None) -> None:
        """See asyncio.Protocol."""
        super().connection_lost(exc)
        self._stop_watching()
        self._open_connections.closed(self)

    def time_out(self) -> bool:
        """End this idle connection; returns whether it stays open, because its client still reads a response."""
        unsent = self.transport.get_write_buffer_size()
        if unsent and unsent != self._unsent:
            self._unsent = unsent
            return True
        if unsent:
            self.transport.abort()
        elif self._in_head and not self._refused:
            self._refuse(Problem("too_slow", "the request line and the headers did not arrive in time"))
        else:
            self.transport.close()
        return False

    def pause_writing(self) -> None:
        """See asyncio.Protocol: the client reads more slowly than the response is written."""
        super().pause_writing()
        self._watch_reading()

    def resume_writing(self) -> None:
        """See asyncio.Protocol: the client has read enough."""
        super().resume_writing()
        self._stop_watching()

    def _watch_reading(self) -> None:
        unsent = self.transport.get_write_buffer_size()
        self._reading = asyncio.get_running_loop().call_later(STALL_SECONDS, self._check_reading, unsent)

    def _check_reading(self, unsent: int) -> None:
        if self.transport.get_write_buffer_size() < unsent:
            self._watch_reading()
        else:
            self.transport.abort()

    def _stop_watching(self) -> None:
        if self._reading is not None:
            self._reading.cancel()
            self._reading = None

    # Parsing

    def data_received(self, data: bytes) -> None:
        """Parse what has arrived. After an invalid request nothing more is parsed."""
        if self._refused:
            return
        self._unset_keepalive_if_required()
        self._bytes_without_progress += len(data)
        try:
            self.parser.feed_data(data)
        except httptools.HttpParserUpgrade:
            # The request was answered as one without `Upgrade`. What follows is not HTTP, or not certainly.
            self._refused = True
        except httptools.HttpParserError as error:
            self._refuse(_problem_of(error))
        else:
            if self._bytes_without_progress > MAX_HEAD_BYTES:
                self._refuse(_head_too_large())

    def on_message_begin(self) -> None:
        """A parser callback: the first byte of a request."""
        super().on_message_begin()
        self._in_head = True
        self._head_bytes = 0

    def on_url(self, url: bytes) -> None:
        """A parser callback: a part of the request target."""
        self._count_head(len(url))
        super().on_url(url)

    def on_header(self, name: bytes, value: bytes) -> None:
        """A parser callback: a header, or a trailer after the body."""
        if self._in_head:
            # Two bytes after the name, and two after the value.
            self._count_head(len(name) + len(value) + 4)
            super().on_header(name, value)

    def on_headers_complete(self) -> None:
        """A parser callback: the request starts."""
        _check_framing(self.parser.get_http_version(), self.headers)
        super().on_headers_complete()
        self._in_head = False
        self._bytes_without_progress = 0
        self._open_connections.busy(self)
        if self.parser.should_upgrade():
            self.cycle.keep_alive = False

    def on_body(self, body: bytes) -> None:
        """A parser callback: a part of the body."""
        self._bytes_without_progress = 0
        super().on_body(body)

    def on_message_complete(self) -> None:
        """A parser callback: the end of the request."""
        self._bytes_without_progress = 0
        super().on_message_complete()

    def _count_head(self, size: int) -> None:
        self._head_bytes += size
        if self._head_bytes > MAX_HEAD_BYTES:
            raise _head_too_large()

    # Responding

    def on_response_complete(self) -> None:
        """A callback of the cycle: its response is written."""
        super().on_response_complete()
        if self.cycle.response_complete:
            self._open_connections.idle(self)

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: Any) -> None:
        if cycle.scope["method"] != "HEAD":
            # A response to HEAD has no part after the head. It would wait although it is complete.
            cycle.transport = cast(asyncio.Transport, ResponseWriter(self.transport))
        super()._start_asgi_task(cycle, functools.partial(self._respond, cycle, app))

    async def _respond(
        self, cycle: RequestResponseCycle, app: ASGIApp, scope: Scope, receive: Receive, send: Send
    ) -> None:
        if not (cycle.more_body or cycle.waiting_for_100_continue):
            # The request has arrived completely, as nearly every GET has, so that no part of it can become invalid.
            await app(scope, receive, send)
            return

        async def receive_checked() -> Message:
            message = await receive()
            if self._broken_body is not None and self._broken_body[0] is cycle:
                problem, self._broken_body = self._broken_body[1], None
                raise problem
            return message

        async def send_and_close(message: Message) -> None:
            if cycle.waiting_for_100_continue:
                # The client may send the body all the same, or the next request. The two cannot be distinguished.
                cycle.keep_alive = False
            await send(message)

        await app(scope, receive_checked, send_and_close if cycle.waiting_for_100_continue else send)

    def _refuse(self, problem: Problem) -> None:
        """Respond to an invalid request, then close the connection. Nothing more is parsed."""
        self._refused = True
        cycle = self.cycle
        if cycle is None or not cycle.more_body:
            self._respond_to_invalid(problem)
        elif cycle.response_complete:
            # The rest of a body to which the gateway has responded already.
            self.transport.close()
        else:
            cycle.keep_alive = False
            self._broken_body = (cycle, problem)
            cycle.message_event.set()

    def _respond_to_invalid(self, problem: Problem) -> None:
        path, _, query = self.url.partition(b"?")
        self.scope.update(
            {
                "method": self.parser.get_method().decode("ascii") if self.url else "-",
                "path": path.decode("latin-1"),
                "raw_path": path,
                "query_string": query,
            }
        )
        cycle = RequestResponseCycle(
            scope=self.scope,
            transport=self.transport,
            flow=self.flow,
            logger=self.logger,
            access_logger=self.access_logger,
            access_log=self.access_log,
            default_headers=self.server_state.default_headers,
            message_event=asyncio.Event(),
            expect_100_continue=False,
            keep_alive=False,
            on_response=self.on_response_complete,
        )
        previous, self.cycle = self.cycle, cycle
        self._open_connections.busy(self)
        app: Any = _refusal(problem, self._base_url)
        if previous is None or previous.response_complete:
            self._start_asgi_task(cycle, app)
        else:
            self.pipeline.appendleft((cycle, app))


def _refusal(problem: Problem, base_url: str) -> ASGIApp:
    """An ASGI app that responds with the problem, and then drops what the client still sends for a moment."""

    async def respond(scope: Scope, receive: Receive, send: Send) -> None:
        await error_response(problem, base_url)(scope, receive, send)

    async def respond_and_linger(scope: Scope, receive: Receive, send: Send) -> None:
        async def send_unfinished(message: Message) -> None:
            await send({**message, "more_body": True} if message["type"] == "http.response.body" else message)

        await AccessLog(respond)(scope, receive, send_unfinished)
        with suppress(TimeoutError):
            async with asyncio.timeout(LINGER_SECONDS):
                # Returns when the client closes the connection.
                await receive()
        await send({"type": "http.response.body"})

    return respond_and_linger


def _problem_of(error: httptools.HttpParserError) -> Problem:
    """The problem of an error of the parser, or of what a callback of the parser has raised."""
    cause = error.__context__ if isinstance(error, httptools.HttpParserCallbackError) else error
    if isinstance(cause, httptools.HttpParserError):
        return Problem("bad_request", f"invalid HTTP: {cause}")
    return problem_of(cause if isinstance(cause, Exception) else error)


def _head_too_large() -> Problem:
    return Problem("headers_too_large", f"the request line and the headers may have at most {MAX_HEAD_BYTES} bytes")


def _check_framing(version: str, headers: list[tuple[bytes, bytes]]) -> None:
    """Refuse a head that another server may read differently (RFC 9112, sections 3.2 and 6.1). Raises Problem."""
    if version not in ("1.0", "1.1"):
        raise Problem("bad_request", f"invalid HTTP: version {version}")
    names = [name for name, _ in headers]
    hosts = names.count(b"host")
    if hosts > 1 or (hosts == 0 and version == "1.1"):
        raise Problem("bad_request", "invalid HTTP: a request has one Host header")
    if b"transfer-encoding" not in names:
        return
    codings = [value.strip().lower() for name, value in headers if name == b"transfer-encoding"]
    if codings != [b"chunked"] or version == "1.0":
        raise Problem("bad_request", "invalid HTTP: the only transfer coding is `chunked`, in HTTP/1.1")
