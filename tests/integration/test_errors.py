"""Bad input over a real socket, unavailable engines, saturation, and the end of a process."""

import json
import secrets
import signal
import socket
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from datetime import timedelta
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest

from tests.support.api import JPEG, PNG, Api, form
from tests.support.engines.stack import Stack
from tests.support.ports import free_port
from tests.support.processes.gateway import GatewayProcess, own_gateway
from tests.support.waiting import Stopwatch, wait_for

FORM_TYPE = b"multipart/form-data; boundary=x"
PART = b'--x\r\nContent-Disposition: form-data; name="image"; filename="a.jpg"\r\n\r\n'
END = b"\r\n--x--\r\n"


@pytest.fixture(scope="module")
def gateway(stack: Stack, tmp_path_factory: pytest.TempPathFactory) -> Iterator[GatewayProcess]:
    """A gateway with short time-outs and room for two uploads."""
    log = tmp_path_factory.mktemp("gateway") / "log"
    with own_gateway(
        stack.settings,
        log,
        upload_idle_timeout=timedelta(seconds=1),
        # Far above the slow upload of a test, far below the rate of a test process that gets little CPU time.
        upload_min_rate=50_000,
        # Two for the address of these tests, and one for others.
        max_concurrent_uploads=3,
    ) as found:
        found.wait_connected()
        yield found


@pytest.fixture
def api(gateway: GatewayProcess) -> Iterator[Api]:
    with Api(gateway.base_url) as client:
        yield client


class Raw:
    """A socket that sends any bytes as an HTTP request."""

    def __init__(self, gateway: GatewayProcess, *lines: bytes, path: bytes = b"/upload") -> None:
        address = urlsplit(gateway.base_url)
        self._socket = socket.create_connection((address.hostname or "", address.port or 0), timeout=20)
        head = [b"POST " + path + b" HTTP/1.1", b"Host: gateway", b"Content-Type: " + FORM_TYPE, *lines]
        self.send(b"\r\n".join(head) + b"\r\n\r\n")

    def send(self, data: bytes) -> None:
        self._socket.sendall(data)

    def close(self) -> None:
        self._socket.close()

    def answer(self) -> tuple[int, dict[str, Any], bytes]:
        """Status, JSON body and raw head of the answer; the server must close the connection behind it."""
        received = b""
        # A client that still sends into a closed connection has it reset after the answer.
        with suppress(ConnectionResetError):
            while chunk := self._socket.recv(65536):
                received += chunk
        head, _, body = received.partition(b"\r\n\r\n")
        return int(head.split()[1]), json.loads(body), head


def chunked(data: bytes) -> bytes:
    return f"{len(data):x}\r\n".encode() + data + b"\r\n"


def test_silent_upload_is_ended_with_408(gateway: GatewayProcess) -> None:
    raw, watch = Raw(gateway, b"Content-Length: 1000"), Stopwatch()
    raw.send(PART)

    status, problem, head = raw.answer()

    assert (status, problem["code"]) == (408, "too_slow")
    assert watch.seconds() < 10
    assert b"connection: close" in head.lower()


def test_slow_upload_is_ended(gateway: GatewayProcess) -> None:
    raw, watch = Raw(gateway, b"Content-Length: 1000000"), Stopwatch()

    def drip() -> None:
        for byte in PART * 1000:
            raw.send(bytes([byte]))
            time.sleep(0.05)

    with pytest.raises((ConnectionResetError, BrokenPipeError)):
        drip()
    assert watch.seconds() < 15


def test_upload_shorter_than_its_content_length_ends_with_the_connection(gateway: GatewayProcess, api: Api) -> None:
    raw = Raw(gateway, b"Content-Length: 100000")
    raw.send(PART + JPEG[:100])
    raw.close()

    assert api.post("/upload", files=form(("a.jpg", JPEG))).status_code == 201


def test_content_length_bounds_the_upload(gateway: GatewayProcess) -> None:
    body = PART + JPEG + END
    raw = Raw(gateway, f"Content-Length: {len(body) - 20}".encode(), b"Connection: close")
    raw.send(body)

    status, problem, _ = raw.answer()

    assert (status, problem["code"]) == (400, "malformed_form")


def test_content_length_beyond_the_limit_is_refused_unread(gateway: GatewayProcess) -> None:
    raw = Raw(gateway, b"Content-Length: 99999999999")

    status, problem, _ = raw.answer()

    assert (status, problem["code"]) == (413, "body_too_large")


def test_chunks_without_a_length_are_read_and_bounded(gateway: GatewayProcess) -> None:
    good = Raw(gateway, b"Transfer-Encoding: chunked", b"Connection: close")
    good.send(b"".join(chunked((PART + JPEG + END)[start : start + 700]) for start in range(0, len(JPEG) + 300, 700)))
    good.send(b"0\r\n\r\n")
    assert good.answer()[0] == 201

    endless = Raw(gateway, b"Transfer-Encoding: chunked")
    endless.send(chunked(PART))
    with ThreadPoolExecutor(1) as pool:
        answer = pool.submit(endless.answer)
        # The gateway closes the connection during the upload; its answer is what is checked.
        with suppress(OSError):
            for _ in range(200):
                endless.send(chunked(bytes(65536)))
        status, problem, _ = answer.result(20)
    assert (status, problem["code"]) == (413, "file_too_large")


def test_a_form_without_an_end_is_refused(gateway: GatewayProcess) -> None:
    body = PART + JPEG
    raw = Raw(gateway, f"Content-Length: {len(body)}".encode())
    raw.send(body)

    status, problem, _ = raw.answer()

    assert (status, problem["code"]) == (400, "malformed_form")


def test_ten_thousand_fields_are_refused_early(gateway: GatewayProcess) -> None:
    body = b'--x\r\nContent-Disposition: form-data; name="f"\r\n\r\n1\r\n' * 10_000
    raw = Raw(gateway, f"Content-Length: {len(body)}".encode())
    raw.send(body)

    status, problem, _ = raw.answer()

    assert (status, problem["code"]) == (413, "body_too_large")


@pytest.mark.parametrize(
    ("options", "status", "code"),
    [
        ({"files": [("x", (None, b""))]}, 400, "no_file"),
        ({"files": form(("a.jpg", JPEG), ("b.jpg", JPEG))}, 400, "too_many_files"),
        ({"json": {"image": "x"}}, 415, "not_multipart"),
        ({"files": form(("a.gif", b"GIF89a" + bytes(100)))}, 415, "unsupported_format"),
        ({"files": form(("a.jpg", b""))}, 422, "empty"),
        ({"files": form(("a.jpg", JPEG[:500]))}, 422, "truncated"),
        ({"files": form(("a.jpg", JPEG)), "params": {"user_id": "1", "shop_id": "2"}}, 400, "invalid_owner"),
        ({"files": form(("a.jpg", JPEG)), "params": {"owner_type": "image", "owner_id": "1"}}, 400, "reserved_owner"),
        ({"files": form(("a.jpg", JPEG)), "headers": {"Idempotency-Key": "x" * 256}}, 400, "bad_request"),
    ],
)
def test_invalid_uploads_have_their_problem(api: Api, options: dict[str, Any], status: int, code: str) -> None:
    answer = api.post("/upload", **options)

    assert (answer.status_code, answer.json()["code"]) == (status, code)
    assert answer.headers["content-type"] == "application/problem+json"
    assert api.get(answer.json()["type"]).status_code == 200


def test_a_full_gateway_answers_429_and_recovers(gateway: GatewayProcess, api: Api) -> None:
    slow = [Raw(gateway, b"Content-Length: 1000") for _ in range(2)]
    for raw in slow:
        raw.send(PART)

    time.sleep(0.3)
    answer = api.post("/upload", files=form(("a.jpg", JPEG)))

    assert (answer.status_code, answer.json()["code"]) == (429, "saturated")
    assert int(answer.headers["retry-after"]) >= 1
    assert [raw.answer()[0] for raw in slow] == [408, 408]
    assert api.post("/upload", files=form(("a.jpg", JPEG))).status_code == 201


def test_every_request_is_one_json_line(gateway: GatewayProcess, api: Api) -> None:
    request_id = secrets.token_hex(8)
    answer = api.post("/images?user_id=log", files=form(("a.png", PNG)), headers={"X-Request-ID": request_id})

    assert answer.headers["x-request-id"] == request_id

    def written() -> list[dict[str, Any]]:
        lines = [json.loads(line) for line in gateway.log.read_text().splitlines() if request_id in line]
        return [line for line in lines if line["event"] == "request"]

    # The entries of the request's work are written before its own.
    wait_for(written, 60, "the line is written")
    [line] = written()
    assert (line["status"], line["owner"], line["image_id"]) == (202, "user:log", answer.json()["image_id"])
    assert line["bytes_in"] > len(PNG)
    assert line["duration_ms"] > 0


@pytest.mark.parametrize(
    ("engine", "changes"),
    [
        ("kafka", {"kafka_bootstrap_servers": "127.0.0.1:{port}", "kafka_send_timeout": timedelta(seconds=3)}),
        ("s3", {"s3_endpoint_url": "http://127.0.0.1:{port}"}),
        ("cassandra", {"cassandra_port": "{port}"}),
    ],
)
def test_gateway_starts_without_an_engine_and_names_it(
    stack: Stack, tmp_path: Path, engine: str, changes: dict[str, Any]
) -> None:
    port = free_port()
    filled = {
        name: type(getattr(stack.settings, name))(value.format(port=port)) if isinstance(value, str) else value
        for name, value in changes.items()
    }
    with own_gateway(stack.settings, tmp_path / "log", **filled) as gateway, Api(gateway.base_url) as client:
        checks = gateway.checks()
        answer = client.post("/images?user_id=away", files=form(("a.jpg", JPEG)))
        listed = client.get("/images?user_id=away")

    assert [name for name, state in checks.items() if state != "ok"] == [engine]
    if engine == "cassandra":
        assert answer.status_code == 202, "the index is best effort: the indexer writes the row"
        assert listed.status_code == 503
    else:
        assert answer.status_code == 503
        assert answer.json()["code"] in ("unavailable", "unknown_outcome")
    for refused in (answer, listed):
        if refused.status_code == 503:
            assert int(refused.headers["retry-after"]) >= 1
            assert "127.0.0.1" not in refused.json()["detail"]


def test_gateway_finishes_open_requests_before_it_ends(stack: Stack, tmp_path: Path) -> None:
    with own_gateway(stack.settings, tmp_path / "log") as gateway:
        gateway.wait_connected()
        body = PART + JPEG + END
        raw = Raw(gateway, f"Content-Length: {len(body)}".encode(), b"Connection: close")
        raw.send(body[:300])
        time.sleep(0.3)

        gateway.signal(signal.SIGTERM)
        time.sleep(0.5)
        with pytest.raises(httpx.TransportError):
            httpx.get(f"{gateway.base_url}/problems", timeout=5)
        raw.send(body[300:])

        assert raw.answer()[0] == 201
        assert gateway.wait_ended() == 0
