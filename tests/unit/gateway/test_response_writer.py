"""What the connection's transport gets from the response of one request."""

import asyncio
from collections.abc import Iterable
from typing import Any, cast

import pytest

from gateway.http.response_writer import ResponseWriter


class Transport:
    """Keeps what is written, each time as one item."""

    def __init__(self) -> None:
        self.written: list[bytes] = []
        self.closed = False

    def write(self, data: bytes) -> None:
        assert not self.closed
        self.written.append(data)

    def writelines(self, parts: Iterable[bytes]) -> None:
        self.write(b"".join(parts))

    def close(self) -> None:
        self.closed = True

    def is_closing(self) -> bool:
        return self.closed


@pytest.fixture
def transport() -> Transport:
    return Transport()


@pytest.fixture
def writer(transport: Transport) -> ResponseWriter:
    return ResponseWriter(cast(Any, transport))


async def test_head_and_body_are_written_at_once(transport: Transport, writer: ResponseWriter) -> None:
    writer.write(b"head ")
    assert transport.written == []
    writer.write(b"body")
    writer.write(b"more")
    await asyncio.sleep(0)
    assert transport.written == [b"head body", b"more"]


async def test_a_head_waits_for_one_turn_only(transport: Transport, writer: ResponseWriter) -> None:
    writer.write(b"head")
    await asyncio.sleep(0)
    assert transport.written == [b"head"]
    writer.write(b"body")
    assert transport.written == [b"head", b"body"]


async def test_closing_writes_the_head_first(transport: Transport, writer: ResponseWriter) -> None:
    writer.write(b"head")
    writer.close()
    assert writer.is_closing()
    assert transport.written == [b"head"]


async def test_a_head_is_dropped_if_the_client_has_left(transport: Transport, writer: ResponseWriter) -> None:
    writer.write(b"head")
    transport.close()
    await asyncio.sleep(0)
    assert transport.written == []
