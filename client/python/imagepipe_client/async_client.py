"""The client for asyncio. Its methods are those of `Client`."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Iterator, Sequence
from contextlib import AsyncExitStack, aclosing, closing
from types import TracebackType
from typing import Any, Self, TypeVar

import httpx

from imagepipe_client import calls
from imagepipe_client.documents import Event, Image, Resync, Snapshot, TemporaryKeys
from imagepipe_client.errors import Problem
from imagepipe_client.files import File, Source, read_file, read_files
from imagepipe_client.retrying import Retry
from imagepipe_client.steps import Emit, NextChunk, Open, Pause, Progress, Send, Step, Steps, Stream, with_result
from imagepipe_client.transport import TIMEOUT, built

T = TypeVar("T")
OwnerPair = tuple[str, str]


class _Transport:
    """Does the steps of one call."""

    def __init__(self, http: httpx.AsyncClient, base_url: str) -> None:
        self._http = http
        self._base_url = base_url
        self._open_stream = AsyncExitStack()
        self._chunks: AsyncIterator[bytes] = _async(iter(()))

    async def items(self, steps: Stream[T]) -> AsyncGenerator[T, None]:
        """The items of the steps."""
        given: Any = None
        failure: httpx.TransportError | None = None
        async with self._open_stream:
            with closing(steps):
                while True:
                    try:
                        step = steps.throw(failure) if failure else steps.send(given)
                    except StopIteration:
                        return
                    given, failure = None, None
                    if isinstance(step, Emit):
                        yield step.item
                        continue
                    try:
                        given = await self._do(step)
                    except httpx.TransportError as error:
                        failure = error

    async def _do(self, step: Step) -> Any:
        match step:
            case Send(request):
                content = _async(request.body.chunks()) if request.body else None
                return await self._http.send(built(self._http, self._base_url, request, content))
            case Pause(seconds):
                return await asyncio.sleep(seconds)
            case NextChunk():
                return await anext(self._chunks, None)
            case Open(request, read_timeout):
                return await self._open(built(self._http, self._base_url, request, None, read_timeout))

    async def _open(self, request: httpx.Request) -> httpx.Response:
        await self._open_stream.aclose()
        response = await self._http.send(request, stream=True)
        self._open_stream.push_async_callback(response.aclose)
        if not response.is_success:
            await response.aread()
        self._chunks = response.aiter_bytes()
        return response


async def _async(chunks: Iterator[bytes]) -> AsyncIterator[bytes]:
    for chunk in chunks:
        yield chunk


class AsyncClient:
    """A client of one gateway for asyncio: `Client` with `await`. `http` is an httpx.AsyncClient of your own."""

    def __init__(self, base_url: str, *, retry: Retry | None = None, http: httpx.AsyncClient | None = None) -> None:
        self._base_url = base_url
        self._retry = retry or Retry()
        self._owns_http = http is None
        self._http = httpx.AsyncClient(timeout=TIMEOUT) if http is None else http

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """Close the connections."""
        if self._owns_http:
            await self._http.aclose()

    async def upload(
        self,
        file: Source | File,
        *,
        owner: OwnerPair | None = None,
        name: str | None = None,
        idempotency_key: str | None = None,
        progress: Progress | None = None,
    ) -> Image:
        """As `Client.upload`."""
        found = await asyncio.to_thread(read_file, file, name)
        return await self._result(calls.upload(found, owner, idempotency_key, progress, self._retry))

    async def upload_many(
        self,
        files: Sequence[Source | File],
        *,
        owner: OwnerPair | None = None,
        idempotency_key: str | None = None,
        progress: Progress | None = None,
    ) -> list[Image | Problem]:
        """As `Client.upload_many`."""
        found = await asyncio.to_thread(read_files, files)
        steps = calls.upload_many(found, owner, idempotency_key, progress, self._retry)
        return [result async for result in self._items(steps)]

    async def upload_directly(
        self,
        file: Source | File,
        *,
        owner: OwnerPair,
        name: str | None = None,
        keys: TemporaryKeys | None = None,
        progress: Progress | None = None,
    ) -> Image:
        """As `Client.upload_directly`."""
        found = await asyncio.to_thread(read_file, file, name)
        return await self._result(calls.upload_directly(found, owner, keys, progress, self._retry))

    async def wait(self, image: Image | str, seconds: float = 60.0) -> Image:
        """As `Client.wait`."""
        image_id = image.id if isinstance(image, Image) else image
        return await self._result(calls.wait(image_id, seconds, self._retry))

    async def get(self, image_id: str) -> Image:
        """As `Client.get`."""
        return await self._result(calls.metadata(image_id, self._retry, fresh=True))

    async def content(self, image_id: str, variant: str | None = None) -> bytes:
        """As `Client.content`."""
        return await self._result(calls.content(image_id, variant, self._retry))

    def images(
        self, owner: OwnerPair | None = None, *, page_size: int = calls.PAGE_SIZE
    ) -> AsyncGenerator[Image, None]:
        """As `Client.images`."""
        return self._items(calls.images(owner, page_size, self._retry))

    async def snapshot(self, owner: OwnerPair | None = None, *, page_size: int = calls.PAGE_SIZE) -> Snapshot:
        """As `Client.snapshot`."""
        return await self._result(calls.snapshot(owner, page_size, self._retry))

    async def replace(
        self,
        image_id: str,
        file: Source | File,
        *,
        name: str | None = None,
        if_match: str | None = None,
        idempotency_key: str | None = None,
        progress: Progress | None = None,
    ) -> Image:
        """As `Client.replace`."""
        found = await asyncio.to_thread(read_file, file, name)
        return await self._result(calls.replace(image_id, found, if_match, idempotency_key, progress, self._retry))

    async def replace_all(
        self,
        files: Sequence[Source | File],
        *,
        owner: OwnerPair,
        idempotency_key: str | None = None,
        progress: Progress | None = None,
    ) -> list[Image]:
        """As `Client.replace_all`."""
        found = await asyncio.to_thread(read_files, files)
        return await self._result(calls.replace_all(found, owner, idempotency_key, progress, self._retry))

    async def delete(self, image_id: str, *, if_match: str | None = None) -> None:
        """As `Client.delete`."""
        await self._result(calls.delete(image_id, if_match, self._retry))

    async def delete_by_url(self, url: str) -> None:
        """As `Client.delete_by_url`."""
        await self._result(calls.delete_by_url(url, self._retry))

    async def clear(self, owner: OwnerPair) -> None:
        """As `Client.clear`."""
        await self._result(calls.clear(owner, self._retry))

    async def temporary_keys(self, owner: OwnerPair, seconds: int | None = None) -> TemporaryKeys:
        """As `Client.temporary_keys`."""
        return await self._result(calls.temporary_keys(owner, seconds, self._retry))

    async def ingest(self, key: str, owner: OwnerPair) -> Image:
        """As `Client.ingest`."""
        return await self._result(calls.ingest(key, owner, self._retry))

    def events(
        self,
        *,
        owners: Sequence[OwnerPair] = (),
        types: Sequence[str] = (),
        image_id: str | None = None,
        position: str | None = None,
    ) -> AsyncGenerator[Event | Resync, None]:
        """As `Client.events`. To stop before the task ends, use it within `contextlib.aclosing`."""
        return self._items(calls.events(owners, types, image_id, position, self._retry))

    async def events_position(self) -> str:
        """As `Client.events_position`."""
        return await self._result(calls.events_position(self._retry))

    def _items(self, steps: Stream[T]) -> AsyncGenerator[T, None]:
        return _Transport(self._http, self._base_url).items(steps)

    async def _result(self, steps: Steps[T]) -> T:
        async with aclosing(self._items(with_result(steps))) as items:
            return await anext(items)
