"""Taking in an object that a client has put into the bucket itself, with a temporary key.

1. Read the object, no further than a file may be large, and check these very bytes.
2. Claim the key and its ETag, so that ingesting twice gives the first answer.
3. Copy it to its final key on condition of that ETag, then go on as every upload does.
"""

import hashlib
import json
from collections.abc import Sequence

from gateway.http.problems import Problem
from gateway.ids import Ids
from gateway.receiving.checking import CheckedFile, check_file
from gateway.receiving.filenames import clean_name
from gateway.receiving.form import file_limits
from gateway.receiving.multipart import FormFile, too_large
from gateway.services.claims import Reply
from gateway.services.container import Services
from gateway.writing.idempotency import once_in
from gateway.writing.replies import single_reply
from gateway.writing.uploads import Storing, announce_upload, store_one
from shared.contract.keys import Owner, incoming_prefix
from shared.errors import NotFound, PreconditionFailed

MAX_KEY_BYTES = 1024
"""S3's limit."""


def check_key(key: object, owner: Owner) -> str:
    """The key, if it is one that the owner's temporary keys can have written. Raises Problem."""
    if not isinstance(key, str) or not key.isprintable() or len(key.encode()) > MAX_KEY_BYTES:
        raise Problem("bad_request", "incoming: the key of an object")
    prefix = incoming_prefix(owner)
    if not key.startswith(prefix) or key == prefix:
        raise Problem("incoming_mismatch", f"keys of this owner start with {prefix}")
    # Stores refuse such a key, or read another one than was written.
    if not {"", ".", ".."}.isdisjoint(key.split("/")):
        raise Problem("bad_request", "incoming: a key without empty segments, `.` and `..`")
    return key


async def ingest(services: Services, key: str, owner: Owner) -> Reply:
    """Take in the object under a checked key. Raises Problem, Unavailable."""
    file, etag = await _read(services, key)
    scope = hashlib.sha256(json.dumps(["ingest", key, etag]).encode()).hexdigest()

    async def work(ids: Sequence[Ids]) -> Reply:
        await store_one(file, ids[0], _copy(services, key, etag))
        return single_reply(services, await announce_upload(services, file, ids[0], owner))

    return await once_in(services, scope, file.sha256, [Ids.mint()], work)


async def _read(services: Services, key: str) -> tuple[CheckedFile, str]:
    """The checked object and its ETag, of one and the same read."""
    limits = file_limits(services.settings)
    try:
        size = (await services.store.head(key)).size
        if size > limits.file_bytes:
            raise too_large(limits.file_bytes)
        # An empty object has no range to ask for.
        found = await services.store.open(key, 0, size - 1 if size else None)
    except NotFound:
        raise Problem("no_such_incoming", f"there is no object {key}") from None
    data = b"".join([chunk async for chunk in found.body])
    if len(data) != found.info.size:
        raise _changed()
    name = clean_name(key.rpartition("/")[2])
    return await check_file(FormFile(name, data), limits), found.info.etag


def _copy(services: Services, source: str, etag: str) -> Storing:
    async def store(key: str, file: CheckedFile) -> None:
        try:
            await services.store.copy(source, key, file.info.content_type, if_etag=etag)
        except (PreconditionFailed, NotFound):
            raise _changed() from None

    return store


def _changed() -> Problem:
    return Problem("incoming_changed", "the object was overwritten or removed meanwhile")
