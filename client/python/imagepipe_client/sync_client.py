"""The client that blocks."""

import time
from collections.abc import Generator, Iterator, Sequence
from contextlib import ExitStack, closing
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

    def __init__(self, http: httpx.Client, base_url: str) -> None:
        self._http = http
        self._base_url = base_url
        self._open_stream = ExitStack()
        self._chunks: Iterator[bytes] = iter(())

    def items(self, steps: Stream[T]) -> Generator[T, None, None]:
        """The items of the steps."""
        given: Any = None
        failure: httpx.TransportError | None = None
        with self._open_stream, closing(steps):
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
                    given = self._do(step)
                except httpx.TransportError as error:
                    failure = error

    def _do(self, step: Step) -> Any:
        match step:
            case Send(request):
                content = request.body.chunks() if request.body else None
                return self._http.send(built(self._http, self._base_url, request, content))
            case Pause(seconds):
                return time.sleep(seconds)
            case NextChunk():
                return next(self._chunks, None)
            case Open(request, read_timeout):
                return self._open(built(self._http, self._base_url, request, None, read_timeout))

    def _open(self, request: httpx.Request) -> httpx.Response:
        self._open_stream.close()
        response = self._http.send(request, stream=True)
        self._open_stream.callback(response.close)
        if not response.is_success:
            response.read()
        self._chunks = response.iter_bytes()
        return response


class Client:
    """A client of one gateway. Use it as a context manager, or call `close`. Threads may share it.

    `base_url` is that of the gateway, and `retry` says how often a request is repeated. `http` is an httpx client with
    settings of your own, such as headers for your authentication; it stays open when this client is closed.

    Each method raises Problem (a subclass for each kind) if the gateway refuses the request, and ConnectionFailed if
    there is no response after all attempts.
    """

    def __init__(self, base_url: str, *, retry: Retry | None = None, http: httpx.Client | None = None) -> None:
        self._base_url = base_url
        self._retry = retry or Retry()
        self._owns_http = http is None
        self._http = httpx.Client(timeout=TIMEOUT) if http is None else http

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections."""
        if self._owns_http:
            self._http.close()

    def upload(
        self,
        file: Source | File,
        *,
        owner: OwnerPair | None = None,
        name: str | None = None,
        idempotency_key: str | None = None,
        progress: Progress | None = None,
    ) -> Image:
        """Upload one file: a path, bytes, or a file that is open for reading. In most cases it is still `processing`.

        All attempts have one Idempotency-Key, so that they make one image. Give one of your own to make a repetition
        by another process safe too. Raises FileRefused for what is no image, and OSError.
        """
        return self._result(calls.upload(read_file(file, name), owner, idempotency_key, progress, self._retry))

    def upload_many(
        self,
        files: Sequence[Source | File],
        *,
        owner: OwnerPair | None = None,
        idempotency_key: str | None = None,
        progress: Progress | None = None,
    ) -> list[Image | Problem]:
        """Upload files, 20 in each request. The result has the image, or the problem, of each file in order."""
        steps = calls.upload_many(read_files(files), owner, idempotency_key, progress, self._retry)
        return list(self._items(steps))

    def upload_directly(
        self,
        file: Source | File,
        *,
        owner: OwnerPair,
        name: str | None = None,
        keys: TemporaryKeys | None = None,
        progress: Progress | None = None,
    ) -> Image:
        """Put a file into the bucket with temporary keys (new ones by default), and make an image of it.

        Needs `imagepipe-client[s3]`, and a gateway with CREDENTIALS_ENABLED.
        """
        return self._result(calls.upload_directly(read_file(file, name), owner, keys, progress, self._retry))

    def wait(self, image: Image | str, seconds: float = 60.0) -> Image:
        """The image (or the one with this id) once it is `ready` or `failed`. Raises WaitTimedOut after `seconds`.

        It follows the live events of the image, and polls where the gateway has no stream for it.
        """
        return self._result(calls.wait(_id_of(image), seconds, self._retry))

    def get(self, image_id: str) -> Image:
        """The status document of an image, not older than this call. Raises NotFound."""
        return self._result(calls.metadata(image_id, self._retry, fresh=True))

    def content(self, image_id: str, variant: str | None = None) -> bytes:
        """The bytes of the original, or of a variant such as `small`. Raises NotFound and NotRendered."""
        return self._result(calls.content(image_id, variant, self._retry))

    def images(
        self, owner: OwnerPair | None = None, *, page_size: int = calls.PAGE_SIZE
    ) -> Generator[Image, None, None]:
        """Every image of an owner, or of all, newest first. It reads the next page when it is needed."""
        return self._items(calls.images(owner, page_size, self._retry))

    def snapshot(self, owner: OwnerPair | None = None, *, page_size: int = calls.PAGE_SIZE) -> Snapshot:
        """The whole list at once, with the position from which `events` continues it without a gap."""
        return self._result(calls.snapshot(owner, page_size, self._retry))

    def replace(
        self,
        image_id: str,
        file: Source | File,
        *,
        name: str | None = None,
        if_match: str | None = None,
        idempotency_key: str | None = None,
        progress: Progress | None = None,
    ) -> Image:
        """Give an image new bytes. Its old variants are served until the new ones are ready.

        With `if_match`, the `version` of the image that you have read, raises PreconditionFailed if it has another one.
        """
        found = read_file(file, name)
        return self._result(calls.replace(image_id, found, if_match, idempotency_key, progress, self._retry))

    def replace_all(
        self,
        files: Sequence[Source | File],
        *,
        owner: OwnerPair,
        idempotency_key: str | None = None,
        progress: Progress | None = None,
    ) -> list[Image]:
        """Make the owner's images exactly these files, at most 20. If one is refused, nothing changes."""
        steps = calls.replace_all(read_files(files), owner, idempotency_key, progress, self._retry)
        return self._result(steps)

    def delete(self, image_id: str, *, if_match: str | None = None) -> None:
        """Delete an image. This is final. Raises NotFound if there was none at the first attempt.

        With `if_match`, a `version`, raises PreconditionFailed if the image has another one.
        """
        self._result(calls.delete(image_id, if_match, self._retry))

    def delete_by_url(self, url: str) -> None:
        """Delete the image whose original has this URL. Raises NotFound as `delete` does."""
        self._result(calls.delete_by_url(url, self._retry))

    def clear(self, owner: OwnerPair) -> None:
        """Delete every image of an owner."""
        self._result(calls.clear(owner, self._retry))

    def temporary_keys(self, owner: OwnerPair, seconds: int | None = None) -> TemporaryKeys:
        """S3 keys that can only put objects under this owner's prefix, for an hour or for `seconds`."""
        return self._result(calls.temporary_keys(owner, seconds, self._retry))

    def ingest(self, key: str, owner: OwnerPair) -> Image:
        """Make an image of an object that was put under the owner's prefix. Again, it gives the same image."""
        return self._result(calls.ingest(key, owner, self._retry))

    def events(
        self,
        *,
        owners: Sequence[OwnerPair] = (),
        types: Sequence[str] = (),
        image_id: str | None = None,
        position: str | None = None,
    ) -> Generator[Event | Resync, None, None]:
        """Live events without end: of all images, of some owners and types, or of one image.

        After an interruption the client connects again and goes on after the last event. `position` is that of an
        event after which an earlier call ended, or of a `snapshot`. Events may repeat. At a `Resync` events may be
        missing: take a snapshot again.
        """
        return self._items(calls.events(owners, types, image_id, position, self._retry))

    def events_position(self) -> str:
        """The position now: `events(position=...)` later gives every event from now on."""
        return self._result(calls.events_position(self._retry))

    def _items(self, steps: Stream[T]) -> Generator[T, None, None]:
        return _Transport(self._http, self._base_url).items(steps)

    def _result(self, steps: Steps[T]) -> T:
        with closing(self._items(with_result(steps))) as items:
            return next(items)


def _id_of(image: Image | str) -> str:
    return image.id if isinstance(image, Image) else image
