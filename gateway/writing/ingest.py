"""Accepts an object that a client has put into the bucket with a temporary key.

1. Read the object and check these bytes. An object above the limit of an upload is not read.
2. Claim its key and ETag, so that a repeated request gets the first reply.
3. Copy the object to its final key, on the condition that its ETag is still the same. Then append the command, as for
   every upload.
"""

import hashlib
import json
import unicodedata
from dataclasses import dataclass

from gateway.http.problems import Problem
from gateway.receiving.checking import CheckedFile, FileLimits, check_file
from gateway.receiving.filenames import clean_name
from gateway.receiving.multipart import FormFile, too_large
from shared.contract.keys import Ids, Owner, incoming_prefix, original_key
from shared.errors import NotFound, PreconditionFailed
from shared.ports import ObjectStore

MAX_KEY_BYTES = 1024
"""The limit of S3."""


@dataclass(frozen=True)
class IncomingObject:
    """A checked object; `etag` and `file` come from the same read."""

    key: str
    etag: str
    file: CheckedFile

    @property
    def scope(self) -> str:
        """The scope in which its ingest takes effect once: an object with other bytes has another ETag."""
        return hashlib.sha256(json.dumps(["ingest", self.key, self.etag]).encode()).hexdigest()


def check_key(key: object, owner: Owner) -> str:
    """The key, if a temporary key of this owner can have written it. Raises Problem."""
    if not isinstance(key, str) or _has_control_characters(key) or len(key.encode()) > MAX_KEY_BYTES:
        raise Problem("bad_request", "`incoming` must be the key of an object, without control characters")
    prefix = incoming_prefix(owner)
    if not key.startswith(prefix) or key == prefix:
        raise Problem("incoming_mismatch", f"the keys of this owner start with {prefix}")
    # Some stores refuse a key with such a segment, others read the object under a normalised key.
    if not {"", ".", ".."}.isdisjoint(key.split("/")):
        raise Problem("bad_request", "`incoming` must have no empty segment and no segment `.` or `..`")
    return key


def _has_control_characters(key: str) -> bool:
    """Whether the key has a control character, or a lone surrogate, which has no UTF-8 form.

    Spaces and formatting characters are allowed: macOS puts U+202F into the names of screenshots.
    """
    return any(unicodedata.category(char) in ("Cc", "Cs") for char in key)


async def read_incoming(store: ObjectStore, key: str, limits: FileLimits) -> IncomingObject:
    """Read and check the object. Raises Problem, and Unavailable."""
    try:
        size = (await store.head(key)).size
        if size > limits.file_bytes:
            raise too_large(limits.file_bytes)
        # An empty object has no valid byte range.
        found = await store.open(key, 0, size - 1 if size else None)
    except NotFound:
        raise Problem("no_such_incoming", f"there is no object {key}") from None
    data = b"".join([chunk async for chunk in found.body])
    if len(data) != found.info.size:
        raise _changed()
    name = clean_name(key.rpartition("/")[2])
    return IncomingObject(key, found.info.etag, await check_file(FormFile(name, data), limits))


async def copy_incoming(store: ObjectStore, incoming: IncomingObject, ids: Ids) -> None:
    """Copy the object to the key of its original. Raises Problem `incoming_changed`, and Unavailable."""
    content_type = incoming.file.info.content_type
    try:
        await store.copy(incoming.key, original_key(*ids, content_type), content_type, if_etag=incoming.etag)
    except (PreconditionFailed, NotFound):
        raise _changed() from None


def _changed() -> Problem:
    return Problem("incoming_changed", "the object was overwritten or removed while the gateway read it")
