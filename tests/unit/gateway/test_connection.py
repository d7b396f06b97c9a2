"""Connections over real sockets: deadlines, limits, invalid requests, and the end of the server."""

import asyncio
import contextlib
import json
import os
import resource
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, NamedTuple

import pytest
import structlog
from starlette.types import ASGIApp, Receive, Scope, Send
from structlog.testing import capture_logs

from gateway.app import create_app
from gateway.http import connection
from gateway.http.connection import MAX_HEAD_BYTES
from gateway.http.server import MAX_CONNECTIONS, Server, connections_for, make_server
from tests.support.images import encode, photo
from tests.support.memory.gateway import MemoryGateway, memory_settings
from tests.support.waiting import Stopwatch, wait_for_async, within

PNG = encode(photo(40, 30), "PNG")
IDLE = 0.5
"""Seconds until the gateway of these tests closes an idle connection."""
LIMIT = 30
"""Seconds for each wait, on a busy machine."""
GET = b"GET /problems HTTP/1.1\r\nHost: gateway\r\n\r\n"
CHUNKED = (
    b"POST /upload HTTP/1.1\r\nHost: gateway\r\nContent-Type: multipart/form-data; boundary=x\r\n"
    b"Transfer-Encoding: chunked\r\n\r\n"
)


@pytest.fixture(autouse=True)
def short_linger(monkeypatch: pytest.MonkeyPatch) -> None:
    """The clients of most tests wait for the server to close the connection."""
    monkeypatch.setattr(connection, "LINGER_SECONDS", 0.1)


class Response(NamedTuple):
    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def problem(self) -> dict[str, Any]:
        assert self.headers["content-type"] == "application/problem+json"
        assert self.headers["x-request-id"]
        found: dict[str, Any] = json.loads(self.body)
        return found


class Client:
    """A client that sends any bytes."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer

    async def send(self, data: bytes) -> None:
        self._writer.write(data)
        await self._writer.drain()

    async def response(self) -> Response:
        async with within(LIMIT):
            head = await self._reader.readuntil(b"\r\n\r\n")
            status, *lines = head.decode().strip().split("\r\n")
            headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in lines)}
            body = await self._reader.readexactly(int(headers.get("content-length", 0)))
        return Response(int(status.split()[1]), headers, body)

    async def some(self, size: int) -> bytes:
        """At most so many of the next bytes; empty at the end."""
        async with within(LIMIT):
            return await self._reader.read(size)

    async def rest(self) -> bytes:
        """Everything until the server closes the connection."""
        async with within(LIMIT):
            try:
                return await self._reader.read()
            except ConnectionResetError:
                return b""

    async def close(self) -> None:
        self._writer.close()
        with contextlib.suppress(OSError):
            await self._writer.wait_closed()


class Running:
    """A server, and clients that are closed at its end."""

    def __init__(self, server: Server) -> None:
        self.server = server
        self.clients: list[Client] = []

    @property
    def port(self) -> int:
        return int(self.server.servers[0].sockets[0].getsockname()[1])

    async def connect(self, address: str = "127.0.0.1") -> Client:
        """A client that connects from this address."""
        client = Client(*await asyncio.open_connection("127.0.0.1", self.port, local_addr=(address, 0)))
        self.clients.append(client)
        return client

    async def exchange(self, data: bytes) -> Response:
        client = await self.connect()
        await client.send(data)
        return await client.response()


@asynccontextmanager
async def running(app: ASGIApp | None = None, most: int = 1000, **changes: Any) -> AsyncIterator[Running]:
    gateway = MemoryGateway(memory_settings(gateway_port=0, **{"upload_idle_timeout": IDLE, **changes}))
    server = make_server(app or create_app(gateway.services), gateway.settings, most)
    serving = asyncio.create_task(server.serve())
    await wait_for_async(lambda: server.started, LIMIT, "the server listens", pause=0.01)
    found = Running(server)
    try:
        yield found
    finally:
        for client in found.clients:
            await client.close()
        server.end()
        await serving


@pytest.mark.parametrize("sent", [b"", b"\r\n", GET])
async def test_a_silent_connection_is_closed(sent: bytes) -> None:
    async with running() as found:
        client, watch = await found.connect(), Stopwatch()
        await client.send(sent)
        received = await client.rest()

    assert watch.seconds() >= IDLE * 0.8
    assert received.count(b"HTTP/1.1") == sent.count(b"GET"), "no response without a request"


@pytest.mark.parametrize("head", [b"G", b"GET /problems HTTP/1.1\r\nHost: gateway\r\nX-Request-ID: r-1\r\nX: y\r\n"])
async def test_a_head_that_does_not_end_is_ended_with_408(head: bytes) -> None:
    async with running() as found:
        response = await found.exchange(head)

    assert (response.status, response.problem["code"]) == (408, "too_slow")
    assert response.headers["connection"] == "close"
    if b"r-1" in head:
        assert response.headers["x-request-id"] == "r-1"


async def test_bytes_that_drip_do_not_extend_the_time_out() -> None:
    async with running() as found:
        client, watch = await found.connect(), Stopwatch()

        async def drip() -> None:
            for byte in GET[:-4] + b"\r\nX-Slow: " + b"x" * 10_000:
                await client.send(bytes([byte]))
                await asyncio.sleep(0.02)

        dripping = asyncio.create_task(drip())
        response = await client.response()
        dripping.cancel()
        await asyncio.gather(dripping, return_exceptions=True)

    assert response.status == 408
    assert watch.seconds() < LIMIT / 2


async def test_an_unread_body_that_drips_behind_its_response_does_not_hold_the_connection() -> None:
    async with running() as found:
        client = await found.connect()
        await client.send(b"GET /problems HTTP/1.1\r\nHost: gateway\r\nContent-Length: 100000\r\n\r\n")
        assert (await client.response()).status == 200

        async def drip() -> None:
            with contextlib.suppress(OSError):
                while True:
                    await client.send(b"x")
                    await asyncio.sleep(0.02)

        dripping = asyncio.create_task(drip())
        received = await client.rest()
        dripping.cancel()
        await asyncio.gather(dripping, return_exceptions=True)

    assert received == b""


async def test_requests_that_take_longer_than_the_time_out_are_answered() -> None:
    async def slow(scope: Scope, receive: Receive, send: Send) -> None:
        await asyncio.sleep(IDLE * 3)
        await send({"type": "http.response.start", "status": 204, "headers": []})
        await send({"type": "http.response.body"})

    async with running(slow) as found:
        client = await found.connect()
        for _ in range(2):
            await client.send(GET)
            assert (await client.response()).status == 204


async def test_the_longest_idle_connection_makes_room() -> None:
    async with running(most=10, upload_idle_timeout=LIMIT * 2) as found:
        silent = [await found.connect() for _ in range(30)]
        statuses = [(await found.exchange(GET)).status for _ in range(5)]
        ended = [await client.rest() for client in silent[:20]]

    assert statuses == [200] * 5
    assert ended == [b""] * 20


async def test_connections_with_a_request_in_progress_are_not_closed_for_room() -> None:
    started, finish = asyncio.Event(), asyncio.Event()

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        started.set()
        await finish.wait()
        await send({"type": "http.response.start", "status": 204, "headers": []})
        await send({"type": "http.response.body"})

    async with running(app, most=5, upload_idle_timeout=LIMIT * 2) as found:
        busy = await found.connect()
        await busy.send(GET)
        await started.wait()
        for _ in range(20):
            await found.connect()
        finish.set()
        assert (await busy.response()).status == 204


async def endless(ended: asyncio.Event, receive: Receive, send: Send) -> None:
    """An app that sends until its client is gone."""
    await send({"type": "http.response.start", "status": 200, "headers": []})
    while (gone := asyncio.ensure_future(receive())) and not ended.is_set():
        await send({"type": "http.response.body", "body": bytes(64 * 1024), "more_body": True})
        await asyncio.sleep(0)
        if gone.done() and gone.result()["type"] == "http.disconnect":
            ended.set()
        gone.cancel()


async def test_a_client_that_reads_nothing_of_its_response_is_disconnected(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection, "STALL_SECONDS", IDLE)
    ended = asyncio.Event()

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await endless(ended, receive, send)

    async with running(app) as found:
        client = await found.connect()
        await client.send(GET)
        async with within(LIMIT):
            await ended.wait()


async def test_a_client_that_reads_slowly_stays_connected(monkeypatch: pytest.MonkeyPatch) -> None:
    stall = 2.0
    monkeypatch.setattr(connection, "STALL_SECONDS", stall)
    ended = asyncio.Event()

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await endless(ended, receive, send)

    async with running(app) as found:
        client = await found.connect()
        await client.send(GET)
        watch = Stopwatch()
        while watch.seconds() < stall * 2:
            # Some megabytes in a second; the server would write many more.
            assert await client.some(256 * 1024)
            await asyncio.sleep(0.02)
        assert not ended.is_set()


def test_the_limit_of_connections_leaves_descriptors_for_the_engines() -> None:
    assert [connections_for(limit) for limit in (256, 1024, 4096, 1 << 20)] == [128, 512, 3072, MAX_CONNECTIONS]


def test_the_soft_limit_of_descriptors_is_raised_to_the_hard_one() -> None:
    code = "from gateway.http.server import raise_descriptor_limit; print(raise_descriptor_limit())"

    def lower() -> None:
        resource.setrlimit(resource.RLIMIT_NOFILE, (256, 777))

    done = subprocess.run(
        [sys.executable, "-c", code], preexec_fn=lower, capture_output=True, text=True, timeout=60, check=True,
        env=os.environ,
    )  # fmt: skip
    assert done.stdout.strip() == "777"


def _post(*headers: bytes, body: bytes = b"", version: bytes = b"1.1") -> bytes:
    return b"\r\n".join((b"POST /upload HTTP/" + version, *headers, b"", body))


HOST = b"Host: gateway"
INVALID = {
    "content-length is no number": _post(HOST, b"Content-Length: five", body=b"abcde"),
    "content-length with a sign": _post(HOST, b"Content-Length: +5", body=b"abcde"),
    "content-length is negative": _post(HOST, b"Content-Length: -5", body=b"abcde"),
    "content-length is empty": _post(HOST, b"Content-Length: ", body=b"abcde"),
    "content-length as a list": _post(HOST, b"Content-Length: 5, 5", body=b"abcde"),
    "content-length overflows": _post(HOST, b"Content-Length: 99999999999999999999999", body=b"abcde"),
    "two content-lengths": _post(HOST, b"Content-Length: 5", b"Content-Length: 6", body=b"abcde"),
    "content-length and transfer-encoding": _post(
        HOST, b"Content-Length: 5", b"Transfer-Encoding: chunked", body=b"0\r\n\r\n"
    ),
    "transfer-encoding and content-length": _post(
        HOST, b"Transfer-Encoding: chunked", b"Content-Length: 5", body=b"0\r\n\r\n"
    ),
    "another transfer coding": _post(HOST, b"Transfer-Encoding: xchunked", body=b"0\r\n\r\n"),
    "two transfer codings": _post(HOST, b"Transfer-Encoding: gzip, chunked", body=b"0\r\n\r\n"),
    "chunked is not the last coding": _post(HOST, b"Transfer-Encoding: chunked, identity", body=b"0\r\n\r\n"),
    "two transfer-encodings": _post(
        HOST, b"Transfer-Encoding: chunked", b"Transfer-Encoding: chunked", body=b"0\r\n\r\n"
    ),
    "transfer-encoding in HTTP/1.0": _post(HOST, b"Transfer-Encoding: chunked", body=b"0\r\n\r\n", version=b"1.0"),
    "a space before the colon": _post(HOST, b"Content-Length : 5", body=b"abcde"),
    "a folded header": _post(HOST, b"X: a\r\n b"),
    "line feeds only": b"GET / HTTP/1.1\nHost: gateway\n\n",
    "one line feed only": b"GET / HTTP/1.1\r\nHost: gateway\nX: y\r\n\r\n",
    "a carriage return in a header": _post(HOST, b"X: a\rY: b"),
    "NUL in a value": _post(HOST, b"X: a\0b"),
    "NUL in a name": _post(HOST, b"X\0: ab"),
    "a header without a name": _post(HOST, b": ab"),
    "no Host": _post(b"X: y"),
    "two Hosts": _post(HOST, b"Host: other"),
    "HTTP/0.9": b"GET /problems\r\n\r\n",
    "HTTP/2 without an agreement": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    "an unknown version": b"GET / HTTP/1.2\r\nHost: gateway\r\n\r\n",
    "a method in lower case": b"get /problems HTTP/1.1\r\nHost: gateway\r\n\r\n",
    "TLS": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(200),
    "a raw byte in the path": b"GET /\xff HTTP/1.1\r\nHost: gateway\r\n\r\n",
    "a raw byte in the query": b"GET /images?user_id=\xff HTTP/1.1\r\nHost: gateway\r\n\r\n",
    "CONNECT": b"CONNECT gateway:80 HTTP/1.1\r\nHost: gateway\r\n\r\n",
}


async def test_an_invalid_request_is_a_problem_and_closes_the_connection() -> None:
    """One server for all of them, as each needs its time to start and to end."""

    async def exchange(found: Running, request: bytes) -> tuple[int, str, str, bytes]:
        client = await found.connect()
        # What follows an ambiguous request is not answered.
        await client.send(request + GET)
        response = await client.response()
        return response.status, response.problem["code"], response.headers["connection"], await client.rest()

    async with running(upload_idle_timeout=LIMIT) as found:
        seen = dict(
            zip(INVALID, await asyncio.gather(*(exchange(found, sent) for sent in INVALID.values())), strict=True)
        )

    assert seen == dict.fromkeys(INVALID, (400, "bad_request", "close", b""))


async def test_an_invalid_request_is_logged() -> None:
    structlog.reset_defaults()
    with capture_logs(processors=[structlog.contextvars.merge_contextvars]) as lines:
        async with running() as found:
            response = await found.exchange(b"POST /upload HTTP/1.1\r\nX-Request-ID: r-7\r\nContent-Length: x\r\n\r\n")

    [line] = [line for line in lines if line["event"] == "request"]
    assert (line["method"], line["path"], line["status"]) == ("POST", "/upload", 400)
    assert response.headers["x-request-id"] == line["request_id"] == "r-7"


@pytest.mark.parametrize(
    "head",
    [
        b"GET /problems HTTP/1.1\r\nHost: gateway\r\n" + b"X: " + b"x" * 1_000_000,
        b"GET /problems HTTP/1.1\r\nHost: gateway\r\n" + b"X: x\r\n" * 100_000,
        b"GET /problems?" + b"x" * 1_000_000,
        b"GET /problems HTTP/1.1\r\nHost: gateway\r\nX: " + b"x" * MAX_HEAD_BYTES + b"\r\n\r\n",
    ],
    ids=["a long value", "many headers", "a long target", "just above the limit"],
)
async def test_a_head_that_is_too_large_is_refused(head: bytes) -> None:
    async with running() as found:
        response = await found.exchange(head)

    assert (response.status, response.problem["code"]) == (431, "headers_too_large")


async def test_a_head_within_the_limit_is_accepted() -> None:
    async with running() as found:
        response = await found.exchange(GET[:-2] + b"X: " + b"x" * (MAX_HEAD_BYTES - 1000) + b"\r\n\r\n")

    assert response.status == 200


@pytest.mark.parametrize("end", [b"0\r\nX-Request-ID: evil\r\n\r\n", b"0\r\nX: " + b"x" * 1_000_000])
async def test_trailers_are_dropped_and_bounded(end: bytes) -> None:
    seen: list[Any] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        with contextlib.suppress(Exception):
            while (await receive()).get("more_body"):
                pass
        seen.extend(scope["headers"])
        await send({"type": "http.response.start", "status": 204, "headers": []})
        await send({"type": "http.response.body"})

    async with running(app) as found:
        await found.exchange(CHUNKED + b"1\r\na\r\n" + end)

    assert b"x-request-id" not in dict(seen)
    assert b"x" not in dict(seen)


async def test_a_broken_chunk_ends_the_upload_with_a_problem() -> None:
    part = b'--x\r\nContent-Disposition: form-data; name="image"; filename="a.png"\r\n\r\n'
    broken = [b"zz\r\n", b"-1\r\n", b"0x1\r\na\r\n", b"1\r\naXX", b"f" * 18 + b"\r\n", b"1\na", b"1 \r\na\r\n"]

    async def exchange(found: Running, chunk: bytes) -> tuple[int, str, bool, bytes]:
        client = await found.connect()
        await client.send(CHUNKED + b"%x\r\n" % len(part) + part + b"\r\n" + chunk)
        response = await client.response()
        problem = response.problem
        return response.status, problem["code"], "invalid HTTP" in problem["detail"], await client.rest()

    structlog.reset_defaults()
    with capture_logs() as lines:
        async with running(upload_idle_timeout=LIMIT) as found:
            seen = await asyncio.gather(*(exchange(found, chunk) for chunk in broken))

    assert seen == [(400, "bad_request", True, b"")] * len(broken)
    assert [line["status"] for line in lines if line["event"] == "request"] == [400] * len(broken)


async def test_an_invalid_request_behind_a_valid_one_is_answered_second() -> None:
    async with running() as found:
        client = await found.connect()
        await client.send(GET + GET + b"GET /problems HTTP/1.1\r\n\r\n")
        statuses = [(await client.response()).status for _ in range(3)]
        rest = await client.rest()

    assert statuses == [200, 200, 400]
    assert rest == b""


async def test_an_unknown_upgrade_is_ignored_and_ends_the_connection() -> None:
    """What follows might be the other protocol."""
    async with running() as found:
        client = await found.connect()
        await client.send(GET[:-2] + b"Connection: Upgrade\r\nUpgrade: h2c\r\n\r\n" + GET)
        response = await client.response()
        rest = await client.rest()

    assert (response.status, response.headers["connection"]) == (200, "close")
    assert rest == b""


@pytest.mark.parametrize(
    ("path", "headers", "status"),
    [
        (b"/upload", b"Content-Type: multipart/form-data; boundary=x\r\nContent-Length: 1000000000\r\n", 413),
        (b"/upload", b"Content-Type: text/plain\r\nContent-Length: 1000\r\n", 415),
        (b"/images", b"Content-Type: application/json\r\nContent-Length: 1000000\r\n", 413),
        (b"/nothing", b"Content-Length: 1000\r\n", 404),
    ],
)
async def test_a_refused_body_is_not_asked_for(path: bytes, headers: bytes, status: int) -> None:
    async with running(upload_idle_timeout=LIMIT) as found:
        client = await found.connect()
        await client.send(
            b"POST " + path + b" HTTP/1.1\r\nHost: gateway\r\nExpect: 100-continue\r\n" + headers + b"\r\n"
        )
        response = await client.response()
        rest = await client.rest()

    assert response.status == status, "the first response is the last one, and not 100"
    assert response.headers["connection"] == "close"
    assert rest == b""


async def test_an_acceptable_body_is_asked_for() -> None:
    body = b'--x\r\nContent-Disposition: form-data; name="image"; filename="a.png"\r\n\r\n' + PNG + b"\r\n--x--\r\n"
    async with running(upload_idle_timeout=LIMIT) as found:
        client = await found.connect()
        await client.send(
            b"POST /upload HTTP/1.1\r\nHost: gateway\r\nExpect: 100-continue\r\n"
            b"Content-Type: multipart/form-data; boundary=x\r\nContent-Length: %d\r\n\r\n" % len(body)
        )
        asked = await client.response()
        await client.send(body)
        response = await client.response()

    assert (asked.status, response.status) == (100, 201)


async def test_a_request_in_progress_is_finished_at_the_end_of_the_server() -> None:
    body = b'--x\r\nContent-Disposition: form-data; name="image"; filename="a.png"\r\n\r\n' + PNG + b"\r\n--x--\r\n"
    async with running(upload_idle_timeout=LIMIT) as found:
        client, silent = await found.connect(), await found.connect()
        await client.send(
            b"POST /upload HTTP/1.1\r\nHost: gateway\r\nContent-Type: multipart/form-data; boundary=x\r\n"
            b"Content-Length: %d\r\n\r\n" % len(body)
        )
        await client.send(body[:100])
        await asyncio.sleep(0.1)
        found.server.end()
        assert await silent.rest() == b""
        await client.send(body[100:])
        response = await client.response()

    assert (response.status, response.headers["connection"]) == (201, "close")
