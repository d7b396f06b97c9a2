"""What a call does, as a generator of steps, so that the sync and the async client share all logic.

A generator yields a step and is sent what the step gives. Only `sync_client` and `async_client` do input and output.
A step that fails raises httpx.TransportError where it was yielded.
"""

from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

import httpx

T = TypeVar("T")
R = TypeVar("R")

Progress = Callable[[int, int], None]
"""Called with the bytes that were sent, and the bytes of the whole body. After a retry it begins at 0 again."""
CHUNK_BYTES = 64 * 1024


@dataclass(frozen=True)
class Body:
    """The bytes of a request. They are sent in chunks, so that `progress` can be called in between."""

    content: bytes
    progress: Progress | None = None

    def chunks(self) -> Generator[bytes, None, None]:
        """The bytes in chunks of 64 KiB; reports each chunk after it was sent."""
        for start in range(0, len(self.content), CHUNK_BYTES):
            chunk = self.content[start : start + CHUNK_BYTES]
            yield chunk
            if self.progress:
                self.progress(start + len(chunk), len(self.content))


@dataclass(frozen=True)
class Request:
    """An HTTP request. `target` is a path of the gateway, or a whole URL."""

    method: str
    target: str
    params: Sequence[tuple[str, str]] = ()
    headers: Mapping[str, str] = field(default_factory=dict)
    body: Body | None = None

    @property
    def all_headers(self) -> dict[str, str]:
        """The headers, with the length of the body: without it the body would be sent chunked."""
        length = {"Content-Length": str(len(self.body.content))} if self.body else {}
        return {**self.headers, **length}

    def url(self, base_url: str) -> str:
        """The URL of this request to the gateway at `base_url`, which may end with a path."""
        return self.target if "://" in self.target else base_url.rstrip("/") + self.target


@dataclass(frozen=True)
class Send:
    """Send a request; gives the httpx.Response with its body."""

    request: Request


@dataclass(frozen=True)
class Pause:
    """Wait for this many seconds."""

    seconds: float


@dataclass(frozen=True)
class Open:
    """Open a stream, and close the one before; gives the httpx.Response, whose body is read if it is an error."""

    request: Request
    read_timeout: float


@dataclass(frozen=True)
class NextChunk:
    """Wait for the next bytes of the open stream; gives None at its end."""


@dataclass(frozen=True)
class Emit(Generic[T]):
    """Give an item to the caller."""

    item: T


Step = Send | Pause | Open | NextChunk
Steps = Generator[Step, Any, R]
"""Steps that end with a result."""
Stream = Generator[Step | Emit[T], Any, None]
"""Steps that give items."""


def send(request: Request) -> Steps[httpx.Response]:
    """The response to a request. Raises httpx.TransportError."""
    response: httpx.Response = yield Send(request)
    return response


def pause(seconds: float) -> Steps[None]:
    """Wait."""
    yield Pause(seconds)


def open_stream(request: Request, read_timeout: float) -> Steps[httpx.Response]:
    """The beginning of a streamed response. Raises httpx.TransportError."""
    response: httpx.Response = yield Open(request, read_timeout)
    return response


def next_chunk() -> Steps[bytes | None]:
    """The next bytes of the stream, None at its end. Raises httpx.TransportError, also after the read time-out."""
    chunk: bytes | None = yield NextChunk()
    return chunk


def with_result(steps: Steps[R]) -> Stream[R]:
    """The result of the steps as their only item."""
    yield Emit((yield from steps))
