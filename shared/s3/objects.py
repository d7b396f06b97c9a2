"""Reads and writes single objects by obstore, an S3 client in Rust that takes a tenth of boto3's CPU time (ADR 18)."""

import re
from collections.abc import AsyncIterator
from datetime import timedelta
from functools import partial
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import obstore
from botocore.handlers import disable_signing
from obstore.auth.boto3 import Boto3CredentialProvider
from obstore.exceptions import (
    AlreadyExistsError,
    BaseError,
    PermissionDeniedError,
    PreconditionError,
    UnauthenticatedError,
)
from obstore.store import S3Store as ObstoreS3

from shared.ports import ObjectInfo, ObjectRange
from shared.settings import Settings

if TYPE_CHECKING:
    import boto3
    from mypy_boto3_s3 import S3Client
    from obstore import GetResult
    from obstore.store import ClientConfig, S3Credential

CHUNK = 256 * 1024
"""Bytes of one part of a stream, or a little more."""
CONNECT_SECONDS = 3.0
ATTEMPTS = 2
"""Attempts of one call. The first may fail because an idle connection was closed. With more attempts the client would
detect an unavailable store later."""
UNLIMITED = timedelta(days=1)
"""For a whole response: a slow client may read a stream for a long time."""
ERRORS = (BaseError, FileNotFoundError)
"""What obstore raises: for a missing object Python's own error."""
CODES = {
    FileNotFoundError: "404",
    AlreadyExistsError: "412",
    PreconditionError: "412",
    PermissionDeniedError: "403",
    UnauthenticatedError: "403",
}
"""What an error without an error code means, such as one of a HEAD request."""
GET_SIGNER = "choose-signer.s3.GetObject"
_CODE = re.compile(r"<Code>(\w+)</Code>")


class Objects:
    """Calls of single objects. They raise ERRORS, which `error_code` explains."""

    def __init__(self, store: ObstoreS3) -> None:
        self._store = store

    @classmethod
    def from_settings(cls, settings: Settings, client: "S3Client", session: "boto3.Session") -> "Objects":
        """The store of the settings. It uses the URLs of this boto3 client, and the session's chain of credentials."""
        attempt = settings.s3_timeout / ATTEMPTS
        options: ClientConfig = {
            "allow_http": True,
            "connect_timeout": min(timedelta(seconds=CONNECT_SECONDS), attempt),
            "read_timeout": attempt,
            "timeout": UNLIMITED,
        }
        if settings.s3_ca_file is not None:
            options["root_certificate"] = settings.s3_ca_file.read_bytes()
        secret = settings.s3_secret_access_key
        credentials: dict[str, Any] = (
            {"access_key_id": settings.s3_access_key_id, "secret_access_key": secret.get_secret_value()}
            if settings.s3_access_key_id and secret
            else {"credential_provider": partial(_chain, session)}
        )
        if settings.s3_checksums == "when_supported":
            credentials["checksum_algorithm"] = "SHA256"
        return cls(
            ObstoreS3(
                settings.s3_bucket,
                **_address(client, settings.s3_bucket),
                region=settings.s3_region,
                client_options=options,
                retry_config={"max_retries": ATTEMPTS - 1, "retry_timeout": settings.s3_timeout},
                **credentials,
            )
        )

    async def put(self, key: str, data: bytes, content_type: str, *, if_absent: bool) -> str:
        """Store an object; returns its ETag."""
        found = await obstore.put_async(
            self._store,
            key,
            data,
            attributes={"Content-Type": content_type},
            mode="create" if if_absent else "overwrite",
            use_multipart=False,
        )
        return _etag(found["e_tag"])

    async def get(self, key: str) -> bytes:
        """The object's bytes."""
        found = await obstore.get_async(self._store, key)
        return bytes(await found.bytes_async())

    async def head(self, key: str) -> ObjectInfo:
        """Size, ETag, time and content type of an object."""
        found = await obstore.get_async(self._store, key, options={"head": True})
        return _info(key, found)

    async def open(self, key: str, start: int, end: int | None) -> ObjectRange:
        """Stream the bytes `start` to `end`, inclusive; to the last byte if `end` is None."""
        options: Any = {}
        if end is not None:
            options = {"range": (start, end + 1)}
        elif start:
            options = {"range": {"offset": start}}
        found = await obstore.get_async(self._store, key, options=options)
        first, behind = found.range
        return ObjectRange(_info(key, found), first, behind - 1, _stream(found))


async def _stream(found: "GetResult") -> AsyncIterator[bytes]:
    async for chunk in found.stream(min_chunk_size=CHUNK):
        yield bytes(chunk)


def _info(key: str, found: "GetResult") -> ObjectInfo:
    meta = found.meta
    content_type = str(found.attributes.get("Content-Type", "application/octet-stream"))
    return ObjectInfo(key, meta["size"], _etag(meta["e_tag"]), meta["last_modified"], content_type)


def _etag(value: str | None) -> str:
    return (value or "").strip('"')


def _chain(session: "boto3.Session") -> "S3Credential":
    """Credentials of boto3's chain. Asked for at a call, not at the start, because they may be missing then."""
    return Boto3CredentialProvider(session)()


def _address(client: "S3Client", bucket: str) -> dict[str, Any]:
    """Endpoint and style of the URLs that boto3 makes, so that one setting has one meaning for both clients.

    The URL is made without a signature: a service that has no credentials reports it at its first call, not here.
    """
    client.meta.events.register_first(GET_SIGNER, disable_signing)
    url = urlsplit(client.generate_presigned_url("get_object", Params={"Bucket": bucket, "Key": "key"}))
    client.meta.events.unregister(GET_SIGNER, disable_signing)
    virtual = url.netloc.startswith(f"{bucket}.")
    return {"endpoint": f"{url.scheme}://{url.netloc}", "virtual_hosted_style_request": virtual}


def error_code(error: Exception) -> str:
    """The error code of the response; without one the HTTP status that the error stands for; "" if it has no response.

    obstore has the response only in the text of its error.
    """
    if match := _CODE.search(str(error)):
        return match[1]
    return next((code for kind, code in CODES.items() if isinstance(error, kind)), "")
