"""wrk sends each request of a list exactly once, with the headers of the run and those of the request."""

import asyncio
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import pytest

from bench.load import Request, drive
from tests.support.waiting import wait_for_async

pytestmark = pytest.mark.skipif(shutil.which("wrk") is None, reason="wrk is not installed")

BODY = b"x" * 1000
REQUESTS = [Request(f"/images/{number}", {"If-Match": f'"{number}"'}) for number in range(50)]
Received = tuple[str, str, str | None, str | None, int]


@contextmanager
def server(received: list[Received], status: int = 204, pause: float = 0) -> Iterator[str]:
    """URL of a server that notes method, path, two headers and length of each request, and answers after a pause."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_PUT(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            headers = (self.headers.get("If-Match"), self.headers.get("Content-Type"))
            received.append((self.command, self.path, *headers, len(body)))
            time.sleep(pause)
            self.send_response(status)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def do_DELETE(self) -> None:
            self.do_PUT()

        def log_message(self, *_: object) -> None:
            """Stay silent."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as serving:
        Thread(target=serving.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{serving.server_port}/any"
        serving.shutdown()


@pytest.mark.parametrize("clients", [1, 8])
async def test_each_request_is_sent_once(clients: int, tmp_path: Path) -> None:
    body = tmp_path / "body"
    body.write_bytes(BODY)
    received: list[Received] = []
    with server(received) as url:
        done = await drive(
            url, clients=clients, seconds=20, method="PUT", headers={"Content-Type": "text/plain"}, body=body,
            requests=REQUESTS,
        )  # fmt: skip
    assert sorted(received) == sorted(
        ("PUT", f"/images/{number}", f'"{number}"', "text/plain", len(BODY)) for number in range(50)
    )
    assert done.requests == 50
    assert done.seconds < 10


async def test_a_delete_has_no_body() -> None:
    received: list[Received] = []
    with server(received) as url:
        await drive(url, clients=1, seconds=20, method="DELETE", requests=REQUESTS[:1])
    assert received == [("DELETE", "/images/0", '"0"', None, 0)]


async def test_a_refused_request_is_an_error() -> None:
    with server([], status=404) as url, pytest.raises(RuntimeError, match="'refused': 50"):
        await drive(url, clients=1, seconds=20, method="DELETE", requests=REQUESTS)


async def test_a_cancelled_run_ends_wrk() -> None:
    received: list[Received] = []
    with server(received, pause=0.05) as url:
        running = asyncio.create_task(drive(url, clients=1, seconds=20, method="DELETE", requests=REQUESTS))
        await wait_for_async(lambda: len(received) > 0, 10, "wrk sends requests")
        running.cancel()
        await asyncio.wait([running])
        count = len(received)
        await asyncio.sleep(0.5)
    assert running.cancelled()
    assert len(received) <= count + 1 < len(REQUESTS)


async def test_too_little_time_for_all_requests_is_an_error() -> None:
    with server([], pause=0.1) as url, pytest.raises(RuntimeError, match=f"DELETE {url}"):
        await drive(url, clients=1, seconds=1, method="DELETE", requests=REQUESTS)
