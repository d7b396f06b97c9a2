"""Reads a request's body no further than its limit and no slower than its pace."""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass

from starlette.requests import ClientDisconnect, Request

from gateway.http.problems import Problem

LINGER_BYTES = 1024 * 1024
LINGER_SECONDS = 1.0
"""How much of a refused body is still read. Closing a connection with unread bytes sends a reset, which can overtake
the answer; most senders are done within this, and who is not has had an answer for long."""

CLOSE = {"Connection": "close"}
"""For answers given before the body was read to its end: the server would go on reading it otherwise."""


@dataclass(frozen=True)
class Pace:
    """How slow a sender may be: silent for `idle` seconds, and `min_rate` bytes a second on average after these."""

    idle: float
    min_rate: int

    def patience(self, elapsed: float, received: int) -> float:
        """Seconds to wait for the next bytes, after so many seconds and bytes."""
        return min(self.idle, self.idle + received / self.min_rate - elapsed)


async def chunks(request: Request, *, limit: int, pace: Pace) -> AsyncIterator[bytes]:
    """The body's non-empty chunks, as they come.

    Raises Problem `body_too_large` above `limit` bytes (at once where Content-Length says so) and `too_slow`;
    ClientDisconnect where the sender goes away.
    """
    announced = request.headers.get("content-length", "")
    if announced.isascii() and announced.isdigit() and int(announced) > limit:
        raise _too_large(limit)
    started, received = time.monotonic(), 0
    stream = request.stream()
    while True:
        patience = pace.patience(time.monotonic() - started, received)
        try:
            async with asyncio.timeout(patience):
                chunk = await anext(stream, b"")
        except TimeoutError:
            raise Problem("too_slow", f"{received} bytes came within {time.monotonic() - started:.0f} s") from None
        if not chunk:
            return
        received += len(chunk)
        if received > limit:
            # What is within the limit first: it may show a nearer cause, such as one file that is too large.
            yield chunk[: limit - received]
            raise _too_large(limit)
        yield chunk


def _too_large(limit: int) -> Problem:
    return Problem("body_too_large", f"the body may have at most {limit} bytes")


async def linger(request: Request) -> None:
    """Read and drop a little of a body that was refused."""
    dropped = 0
    with contextlib.suppress(TimeoutError, ClientDisconnect, RuntimeError, StopAsyncIteration):
        async with asyncio.timeout(LINGER_SECONDS):
            # Not request.stream(): its generator may have been ended by the refusal.
            while dropped < LINGER_BYTES:
                message = await request.receive()
                dropped += len(message.get("body", b""))
                if not message.get("more_body", False):
                    return


async def read_all(request: Request, *, limit: int, pace: Pace) -> bytes:
    """A small body whole. Raises as chunks() does."""
    return b"".join([chunk async for chunk in chunks(request, limit=limit, pace=pace)])
