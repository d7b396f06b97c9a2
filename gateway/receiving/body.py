"""Reads the body of a request, up to a size limit and above a minimum rate."""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

from starlette.requests import ClientDisconnect, Request

from gateway.http.problems import Problem
from shared.contract.untrusted_json import read_json

MAX_JSON_BYTES = 16 * 1024

LINGER_BYTES = 1024 * 1024
LINGER_SECONDS = 1.0
"""How much of a refused body the gateway still reads. If it closed the connection with unread bytes, the kernel would
send a reset, which can reach the client before the response. Most clients have sent all within these limits; a slower
client has long received the response."""

CLOSE = {"Connection": "close"}
"""For responses that are sent before the end of the body. Without it the server would read the rest of the body."""


@dataclass(frozen=True)
class Pace:
    """How slowly a client may send: `idle` seconds without a byte, and from then on `min_rate` bytes per second."""

    idle: float
    min_rate: int

    def time_left(self, elapsed: float, received: int) -> float:
        """Seconds to wait for the next bytes, when `received` bytes have come in `elapsed` seconds."""
        return min(self.idle, self.idle + received / self.min_rate - elapsed)


async def chunks(request: Request, *, limit: int, pace: Pace) -> AsyncIterator[bytes]:
    """The non-empty chunks of the body, as they arrive.

    Raises Problem `body_too_large` above `limit` bytes (immediately if Content-Length is above it), Problem `too_slow`,
    and ClientDisconnect.
    """
    announced = request.headers.get("content-length", "")
    if announced.isascii() and announced.isdigit() and int(announced) > limit:
        raise _too_large(limit)
    started, received = time.monotonic(), 0
    request.state.body_requested = True
    stream = request.stream()
    while True:
        time_left = pace.time_left(time.monotonic() - started, received)
        try:
            async with asyncio.timeout(time_left):
                chunk = await anext(stream, b"")
        except TimeoutError:
            seconds = time.monotonic() - started
            raise Problem("too_slow", f"the gateway received {received} bytes in {seconds:.0f} s") from None
        if not chunk:
            return
        received += len(chunk)
        if received > limit:
            # The bytes within the limit may show a more precise cause, such as a single file that is too large.
            yield chunk[: limit - received]
            raise _too_large(limit)
        yield chunk


def _too_large(limit: int) -> Problem:
    return Problem("body_too_large", f"the body may have at most {limit} bytes")


@asynccontextmanager
async def closing_if_refused(request: Request) -> AsyncIterator[None]:
    """Around the reading of a body: a Problem in it makes its response close the connection."""
    try:
        yield
    except Problem as problem:
        problem.headers |= CLOSE
        if not _waits_for_continue(request):
            await _linger(request)
        raise


def _waits_for_continue(request: Request) -> bool:
    """Whether the client sends its body only after `100 Continue`, which the server sends when the body is read.

    Such a client has sent nothing that would have to be read, and must not be asked for a body that is refused.
    """
    expects = request.headers.get("expect", "").lower() == "100-continue"
    return expects and not getattr(request.state, "body_requested", False)


async def _linger(request: Request) -> None:
    """Read a little more of a refused body, and drop it."""
    dropped = 0
    with contextlib.suppress(TimeoutError, ClientDisconnect, RuntimeError, StopAsyncIteration):
        async with asyncio.timeout(LINGER_SECONDS):
            # Not request.stream(): the Problem may have ended that generator.
            while dropped < LINGER_BYTES:
                message = await request.receive()
                dropped += len(message.get("body", b""))
                if not message.get("more_body", False):
                    return


async def read_json_object(request: Request, pace: Pace) -> dict[str, Any]:
    """A body that is a JSON object of at most MAX_JSON_BYTES. Raises Problem, and ClientDisconnect."""
    async with closing_if_refused(request):
        body = b"".join([chunk async for chunk in chunks(request, limit=MAX_JSON_BYTES, pace=pace)])
    try:
        value = read_json(body)
    except ValueError:
        raise Problem("bad_request", "the body is not valid JSON") from None
    if not isinstance(value, dict):
        raise Problem("bad_request", "the body is not a JSON object")
    return value


def scalar_fields(body: dict[str, Any]) -> list[tuple[str, str]]:
    """The strings and integers of a JSON object, as a form would have them: `{"user_id": 1}` means `user_id=1`."""
    scalars = {name: value for name, value in body.items() if isinstance(value, str | int)}
    return [(name, str(value)) for name, value in scalars.items() if not isinstance(value, bool)]
