"""The bucket: single objects by obstore, and all other calls by boto3, whose blocking calls have their own threads."""

import asyncio
import math
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import replace
from datetime import datetime, timedelta
from email.utils import parsedate_to_datetime
from functools import cache
from typing import TYPE_CHECKING, Any, NoReturn, TypeVar

import boto3
import botocore.session
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError, HTTPClientError, ParamValidationError
from botocore.utils import parse_timestamp

from shared.errors import NotFound, PreconditionFailed, RequestRefused, Unavailable
from shared.ports import LIST_PAGE, ObjectInfo, ObjectRange
from shared.s3 import objects
from shared.s3.objects import ATTEMPTS, CONNECT_SECONDS, Objects
from shared.security import explain_s3, s3_verify
from shared.settings import Settings

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

T = TypeVar("T")
DELETE_BATCH = 1000
"""Maximum number of keys of one DeleteObjects call."""
MISSING = {"404", "NoSuchKey", "NotFound"}
LOST_RACE = {"412", "PreconditionFailed", "409", "ConditionalRequestConflict"}
IMPOSSIBLE = {
    "InvalidObjectName", "InvalidURI", "KeyTooLong", "KeyTooLongError",
    "XMinioInvalidObjectName", "XMinioInvalidResourceName",
}  # fmt: skip
"""Error codes of AWS, Ceph, MinIO and SeaweedFS for an invalid key. Unknown codes count as an outage, because a store
that refuses every request must not send every record to the DLQ."""
MAX_KEY = 1024
"""Maximum length of a key in bytes. SeaweedFS answers 404 to a read with a longer key, and InvalidRequest, which has
many causes, to a key with a part `.` or `..`. So the adapter refuses these keys itself."""
LAST_CHARACTER = "\U0010ffff"
"""The highest Unicode code point."""
MISCONFIGURED = {"AccessDenied", "InvalidAccessKeyId", "SignatureDoesNotMatch", "NoSuchBucket", "403"}


def s3_client(settings: Settings, access_key: str | None = None, secret_key: str | None = None) -> "S3Client":
    """A boto3 S3 client for these settings. `access_key` and `secret_key` replace the credentials of the settings."""
    secret = settings.s3_secret_access_key
    client: S3Client = _session().client(
        "s3",
        endpoint_url=settings.s3_endpoint_url,
        region_name=settings.s3_region,
        aws_access_key_id=access_key or settings.s3_access_key_id,
        aws_secret_access_key=secret_key or (secret.get_secret_value() if secret else None),
        verify=s3_verify(settings),
        config=boto_config(settings),
    )
    return client


@cache
def _session() -> boto3.Session:
    session = botocore.session.get_session()
    # botocore's own parser guesses the format of each time. That was three quarters of the work of reading a listing.
    session.get_component("response_parser_factory").set_parser_defaults(timestamp_parser=read_time)
    return boto3.Session(botocore_session=session)


def read_time(value: Any) -> datetime:
    """Parse a time in the format of listings or of headers. Raises ValueError if it is not a time."""
    with suppress(ValueError, AttributeError):
        if value.endswith("Z"):
            return datetime.fromisoformat(value)
        if value.endswith(" GMT"):
            return parsedate_to_datetime(value)
    found: datetime = parse_timestamp(value)
    return found


def boto_config(settings: Settings) -> Config:
    """Client configuration that S3-compatible stores support, with limited retries and time-outs."""
    attempt = settings.s3_timeout.total_seconds() / ATTEMPTS
    return Config(
        signature_version="s3v4",
        s3={"addressing_style": settings.s3_addressing_style},
        request_checksum_calculation=settings.s3_checksums,
        response_checksum_validation=settings.s3_checksums,
        max_pool_connections=settings.s3_threads,
        connect_timeout=min(CONNECT_SECONDS, attempt),
        read_timeout=attempt,
        retries={"mode": "standard", "total_max_attempts": ATTEMPTS},
    )


class S3Store:
    """`ObjectStore` on AWS S3 or on an S3-compatible store.

    A call that takes longer than `timeout` raises Unavailable. The store may still execute it later, like a request
    whose response is lost. That is harmless, because the content of a key never changes.

    The time-out does not count the wait for other calls to end, because a long queue is no outage. A call that waits
    raises Unavailable if the store has answered no call for `timeout`.
    """

    def __init__(self, client: "S3Client", single: Objects, bucket: str, threads: int, timeout: timedelta) -> None:
        """`threads` is the maximum number of calls at the same time."""
        self._client = client
        self._objects = single
        self._bucket = bucket
        self._timeout = timeout.total_seconds()
        self._threads = ThreadPoolExecutor(threads, thread_name_prefix="s3")
        self._idle = asyncio.Semaphore(threads)
        self._answered = -math.inf
        """Time of the loop at which the store last answered a call, also with an error code."""

    @classmethod
    def from_settings(cls, settings: Settings) -> "S3Store":
        """The store of the settings."""
        client = s3_client(settings)
        single = Objects.from_settings(settings, client, _session())
        return cls(client, single, settings.s3_bucket, settings.s3_threads, settings.s3_timeout)

    async def put(self, key: str, data: bytes, content_type: str, *, if_absent: bool = False) -> str:
        """See ObjectStore.put."""
        return await self._ask(lambda: self._objects.put(key, data, content_type, if_absent=if_absent), key)

    async def get(self, key: str) -> bytes:
        """See ObjectStore.get."""
        return await self._ask(lambda: self._objects.get(key), key)

    async def head(self, key: str) -> ObjectInfo:
        """See ObjectStore.head."""
        return await self._ask(lambda: self._objects.head(key), key)

    async def open(self, key: str, start: int = 0, end: int | None = None) -> ObjectRange:
        """See ObjectStore.open."""
        found = await self._ask(lambda: self._objects.open(key, start, end), key)
        return replace(found, body=self._stream(found.body, key))

    async def _stream(self, body: AsyncIterator[bytes], key: str) -> AsyncIterator[bytes]:
        while (chunk := await self._answer(anext(body, None), key)) is not None:
            yield chunk

    async def copy(self, source: str, target: str, content_type: str, *, if_etag: str) -> None:
        """See ObjectStore.copy."""
        await self._call(
            lambda: self._client.copy_object(
                Bucket=self._bucket,
                Key=target,
                CopySource={"Bucket": self._bucket, "Key": source},
                CopySourceIfMatch=if_etag,
                MetadataDirective="REPLACE",
                ContentType=content_type,
            ),
            source,
        )

    async def list(self, prefix: str) -> Sequence[ObjectInfo]:
        """See ObjectStore.list."""
        found, token = await self.page(prefix)
        everything = list(found)
        while token is not None:
            found, token = await self.page(prefix, token)
            everything += found
        return everything

    async def page(
        self, prefix: str, token: str | None = None, *, after: str = "", limit: int = LIST_PAGE
    ) -> tuple[Sequence[ObjectInfo], str | None]:
        """One page of a listing: up to `limit` (at most 1,000) objects in the order of their keys, and a token.

        Pass the token to get the next page; it is None after the last page. Use this for listings that do not fit into
        memory. The first page may start `after` a key; an object with this key need not exist. A store sorts by the
        bytes of the whole key, or by one part of the path after the other, like SeaweedFS.
        """
        first = {"StartAfter": _just_before(after)} if after else {}
        position: dict[str, Any] = {"ContinuationToken": token} if token else first
        answer = await self._call(
            lambda: self._client.list_objects_v2(Bucket=self._bucket, Prefix=prefix, MaxKeys=limit, **position), prefix
        )
        found = [_info(item) for item in answer.get("Contents", [])]
        if token is None:
            found = [info for info in found if info.key > after]
        return found, answer.get("NextContinuationToken")

    async def delete(self, keys: Iterable[str]) -> None:
        """See ObjectStore.delete."""
        everything = list(keys)
        for start in range(0, len(everything), DELETE_BATCH):
            batch = everything[start : start + DELETE_BATCH]
            await self._call(lambda batch=batch: self._delete(batch), batch[0])  # type: ignore[misc]

    def _delete(self, keys: Sequence[str]) -> None:
        answer = self._client.delete_objects(
            Bucket=self._bucket, Delete={"Objects": [{"Key": key} for key in keys], "Quiet": True}
        )
        if errors := answer.get("Errors"):
            raise Unavailable("s3", f"could not delete {len(errors)} objects, the first: {errors[0]}")

    async def check(self) -> None:
        """Return if the bucket can be listed. Raises Unavailable."""
        await self._call(lambda: self._client.list_objects_v2(Bucket=self._bucket, MaxKeys=1), self._bucket)

    async def close(self) -> None:
        """Wait for running calls and stop the threads."""
        await asyncio.to_thread(self._threads.shutdown)
        self._client.close()

    async def _ask(self, ask: Callable[[], Awaitable[T]], key: str) -> T:
        """Call obstore. Raises the errors of ObjectStore."""
        if "" in key.split("/"):  # obstore would read the object under a normalised key
            raise RequestRefused(f"s3: no object can have this key: {key[:MAX_KEY]}")
        await self._wait_for_turn(key)
        try:
            return await self._answer(ask(), key)
        finally:
            self._idle.release()

    async def _answer(self, asked: Awaitable[T], key: str) -> T:
        try:
            async with asyncio.timeout(self._timeout):
                answer = await asked
        except TimeoutError as error:
            raise self._no_answer() from error
        except objects.ERRORS as error:
            code = objects.error_code(error)
            if code:
                self._answered = asyncio.get_running_loop().time()
            _refuse(code, key, error)
        self._answered = asyncio.get_running_loop().time()
        return answer

    async def _call(self, function: Callable[[], T], key: str) -> T:
        """Call boto3 in a thread. Raises the errors of ObjectStore."""
        await self._wait_for_turn(key)
        loop = asyncio.get_running_loop()
        calling = loop.run_in_executor(self._threads, function)
        # After a time-out the thread is still busy, so the call itself must release the thread.
        calling.add_done_callback(lambda _: self._idle.release())
        try:
            # boto's time-outs apply to each attempt and each packet. A store that sends one byte at a time would block
            # the caller permanently without this time-out.
            async with asyncio.timeout(self._timeout):
                answer = await asyncio.shield(calling)
        except TimeoutError as error:
            raise self._no_answer() from error
        except (ClientError, BotoCoreError, HTTPClientError, OSError) as error:
            if isinstance(error, ClientError):
                self._answered = loop.time()
            _translate(error, key)
        self._answered = loop.time()
        return answer

    async def _wait_for_turn(self, key: str) -> None:
        """Wait until fewer calls run than may. Raises Unavailable if the store has answered none for the time-out."""
        if len(key.encode()) > MAX_KEY or {".", ".."} & set(key.split("/")):
            raise RequestRefused(f"s3: no object can have this key: {key[:MAX_KEY]}")
        loop = asyncio.get_running_loop()
        if not self._idle.locked():
            await self._idle.acquire()
            return
        began = loop.time()
        idle = asyncio.create_task(self._idle.acquire())
        try:
            while not idle.done():
                left = max(began, self._answered) + self._timeout - loop.time()
                if left <= 0:
                    raise self._no_answer()
                await asyncio.wait({idle}, timeout=left)
        except BaseException:
            if not idle.cancel():
                self._idle.release()
            raise

    def _no_answer(self) -> Unavailable:
        return Unavailable("s3", f"no answer within {self._timeout:g} s")


def _info(item: Any) -> ObjectInfo:
    return ObjectInfo(item["Key"], item["Size"], item["ETag"].strip('"'), item["LastModified"])


def _just_before(key: str) -> str:
    """A key that every store sorts before `key`, with few possible keys between the two.

    `key` itself cannot be the start of a listing: a listing of SeaweedFS 4.48 after `a/b` leaves out all of `a/b/`.
    """
    if key.endswith("/") or not key.isascii() or key[-1] <= " ":
        return key
    return f"{key[:-1]}{chr(ord(key[-1]) - 1)}{LAST_CHARACTER}"


def error_code(error: ClientError) -> str:
    """The error code, or the HTTP status if the response has no code, as from SeaweedFS's STS."""
    return error.response.get("Error", {}).get("Code") or str(error.response["ResponseMetadata"]["HTTPStatusCode"])


def _translate(error: Exception, key: str) -> NoReturn:
    code = error_code(error) if isinstance(error, ClientError) else ""
    if isinstance(error, ParamValidationError):
        raise RequestRefused(f"s3: {error}") from error
    _refuse(code, key, error)


def _refuse(code: str, key: str, error: Exception) -> NoReturn:
    if code in MISCONFIGURED:
        raise Unavailable("s3", f"{code}: check S3_BUCKET and the services' credentials") from error
    if code in MISSING:
        raise NotFound(key) from error
    if code in LOST_RACE:
        raise PreconditionFailed(key) from error
    if code in IMPOSSIBLE:
        raise RequestRefused(f"s3: {explain_s3(error)}") from error
    raise Unavailable("s3", explain_s3(error)) from error
