"""Conditional requests, ranges and file names, without a store."""

from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import UTC, datetime
from urllib.parse import unquote

import pytest
from hypothesis import given
from hypothesis import strategies as st
from starlette.requests import ClientDisconnect, Request
from starlette.types import Message, Scope
from werkzeug.http import http_date, parse_options_header

from gateway.http.problems import Problem
from gateway.reading.media import Decision, content_disposition, decide, respond
from gateway.reading.served import Served
from shared.ports import ObjectInfo, ObjectRange
from tests.support.memory.ports import CHUNK, MemoryStore

MODIFIED = datetime(2026, 11, 1, 12, 0, 0, tzinfo=UTC)
INFO = ObjectInfo("images/x", 1000, "abc", MODIFIED, "image/png")
WHOLE = Decision(200, 0, 999)
EARLIER = http_date(datetime(2026, 10, 1, tzinfo=UTC))


@pytest.mark.parametrize(
    ("headers", "expected"),
    [
        ({}, WHOLE),
        ({"range": "bytes=0-99"}, Decision(206, 0, 99)),
        ({"range": "bytes=100-"}, Decision(206, 100, 999)),
        ({"range": "bytes=990-5000"}, Decision(206, 990, 999)),
        ({"range": "bytes=-10"}, Decision(206, 990, 999)),
        ({"range": "bytes=-5000"}, Decision(206, 0, 999)),
        ({"range": "bytes=0-0"}, Decision(206, 0, 0)),
        ({"range": "bytes=0-9,20-29"}, WHOLE),
        ({"range": "bytes=9-0"}, WHOLE),
        ({"range": "bytes=-0"}, WHOLE),
        ({"range": "bytes=a-b"}, WHOLE),
        ({"range": "bytes=" + "9" * 5000 + "-"}, WHOLE),
        ({"range": "lines=1-2"}, WHOLE),
        ({"range": "bytes"}, WHOLE),
        ({"range": "bytes=0-9", "if-range": '"abc"'}, Decision(206, 0, 9)),
        ({"range": "bytes=0-9", "if-range": '"old"'}, WHOLE),
        ({"range": "bytes=0-9", "if-range": 'W/"abc"'}, WHOLE),
        ({"range": "bytes=0-9", "if-range": http_date(MODIFIED)}, Decision(206, 0, 9)),
        ({"range": "bytes=0-9", "if-range": EARLIER}, WHOLE),
        ({"if-none-match": '"abc"'}, Decision(304, 0, -1)),
        ({"if-none-match": 'W/"abc", "x"'}, Decision(304, 0, -1)),
        ({"if-none-match": "*"}, Decision(304, 0, -1)),
        ({"if-none-match": '"other"'}, WHOLE),
        ({"if-none-match": '"other"', "if-modified-since": http_date(MODIFIED)}, WHOLE),
        ({"if-modified-since": http_date(MODIFIED)}, Decision(304, 0, -1)),
        ({"if-modified-since": EARLIER}, WHOLE),
        ({"if-modified-since": "yesterday"}, WHOLE),
        ({"if-none-match": '"abc"', "range": "bytes=0-9"}, Decision(304, 0, -1)),
        ({"if-match": '"abc"'}, WHOLE),
        ({"if-match": "*"}, WHOLE),
    ],
)
def test_conditions_and_ranges(headers: dict[str, str], expected: Decision) -> None:
    assert decide("GET", headers, INFO) == expected


@pytest.mark.parametrize("value", ["bytes=0-99", "bytes=1000-"])
def test_head_ignores_ranges(value: str) -> None:
    assert decide("HEAD", {"range": value}, INFO) == WHOLE


@pytest.mark.parametrize("value", ["bytes=1000-", "bytes=5000-6000"])
def test_a_range_after_the_end_is_not_satisfiable(value: str) -> None:
    with pytest.raises(Problem) as caught:
        decide("GET", {"range": value}, INFO)
    assert (caught.value.status, caught.value.headers) == (416, {"Content-Range": "bytes */1000"})


@pytest.mark.parametrize("value", ['"other"', 'W/"abc"'])
def test_if_match_names_another_file(value: str) -> None:
    with pytest.raises(Problem) as caught:
        decide("GET", {"if-match": value}, INFO)
    assert caught.value.code == "precondition_failed"


async def test_the_stream_of_the_store_is_closed_when_the_client_disconnects() -> None:
    store = MemoryStore()
    await store.put("a", bytes(10 * CHUNK), "image/png")
    closed: list[bool] = []

    async def watched(body: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
        try:
            async for chunk in body:
                yield chunk
        finally:
            closed.append(True)

    class Watched(MemoryStore):
        async def open(self, key: str, start: int = 0, end: int | None = None) -> ObjectRange:
            found = await store.open(key, start, end)
            return replace(found, body=watched(found.body))

    async def receive() -> Message:
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message: Message) -> None:
        if message["type"] == "http.response.body":
            raise OSError("the client is gone")

    scope: Scope = {"type": "http", "method": "GET", "headers": [], "asgi": {"version": "3.0", "spec_version": "2.4"}}
    response = await respond(Request(scope), Watched(), Served("a", "image/png", "a.png"), {})
    with pytest.raises(ClientDisconnect):
        await response(scope, receive, send)
    assert closed == [True]


@pytest.mark.parametrize(
    ("name", "content_type", "expected"),
    [
        ("cat.jpg", "image/jpeg", "cat.jpg"),
        ("cat.JPEG", "image/jpeg", "cat.JPEG"),
        ("page.html", "image/png", "page.html.png"),
        ("../../etc/passwd", "image/png", "_.._etc_passwd.png"),
        ('a"; filename="evil.exe', "image/png", "a_; filename=_evil.exe.png"),
        ("a\r\nSet-Cookie: x=1.png", "image/png", "aSet-Cookie_ x=1.png"),
        ("photo\u202egpj.exe", "image/webp", "photogpj.exe.webp"),
        ("Dünen 🏜.webp", "image/webp", "Dünen 🏜.webp"),
        ("", "image/png", "image.png"),
        (".png", "image/png", "png.png"),
        ("...", "image/png", "image.png"),
    ],
)
def test_file_names_are_neutralised(name: str, content_type: str, expected: str) -> None:
    header = content_disposition(name, content_type)
    assert unquote(header.rpartition("UTF-8''")[2]) == expected


@given(st.text(max_size=300), st.sampled_from(["image/png", "image/jpeg", "image/webp"]))
def test_no_name_leaves_its_place_in_the_header(name: str, content_type: str) -> None:
    header = content_disposition(name, content_type)
    assert header.isascii()
    assert header.isprintable()
    assert len(header) < 2000
    kind, options = parse_options_header(header)
    assert kind == "inline"
    assert set(options) == {"filename"}
    assert options["filename"].lower().endswith((".png", ".jpg", ".jpeg", ".webp"))
    assert not set('/\\"') & set(options["filename"])
