"""Does the work of a request once per `Idempotency-Key`, or each time if the request has no key."""

import hashlib
import json
import re
from collections.abc import Awaitable, Callable, Sequence

from fastapi import Request

from gateway.http.problems import Problem
from gateway.receiving.checking import CheckedFile
from gateway.services.claims import Claims, Reply
from shared.contract.keys import Ids, Owner

HEADER = "Idempotency-Key"
_VALID_KEY = re.compile(r"[\x21-\x7e](?:[\x20-\x7e]{0,253}[\x21-\x7e])?")

Work = Callable[[Sequence[Ids]], Awaitable[Reply]]
"""Does the work of a request under these ids."""


async def once(
    request: Request,
    claims: Claims,
    owner: Owner | None,
    pairs: Sequence[tuple[str, str]],
    files: Sequence[CheckedFile | Problem],
    work: Work,
) -> Reply:
    """The reply of the work, done at most once per Idempotency-Key. The work gets ids for each file.

    `pairs` are the request's parameters and form fields. Raises Problem, Unavailable, and what the work raises.
    """
    ids = [Ids.mint() for _ in files]
    key = requested_key(request)
    if key is None:
        return await work(ids)
    scope = _scope(request.method, request.url.path, owner, key)
    return await once_in_scope(claims, scope, _fingerprint(pairs, files), ids, work)


def requested_key(request: Request) -> str | None:
    """The Idempotency-Key of a request, if it has one. Raises Problem for two, and for an invalid one."""
    keys = request.headers.getlist(HEADER)
    if len(keys) > 1:
        raise Problem("bad_request", f"send the header {HEADER} once")
    if not keys:
        return None
    if not _VALID_KEY.fullmatch(keys[0]):
        raise Problem("bad_request", f"{HEADER} must have 1 to 255 printable ASCII characters")
    return keys[0]


async def once_in_scope(claims: Claims, scope: str, fingerprint: str, ids: Sequence[Ids], work: Work) -> Reply:
    """The reply of the work, done at most once in this scope. Raises Problem, Unavailable, and what the work raises."""
    claim = await claims.claim(scope, fingerprint, ids)
    if isinstance(claim, Reply):
        return claim
    try:
        reply = await work(claim.row.ids)
    except Problem as error:
        # A 4xx has changed nothing, so the key can be used again. After a 5xx a retry continues with the same ids, and
        # so does it if another request was in the way: an earlier try may have changed something.
        continues = error.status >= 500 or error.code == "in_flight"
        await (claims.release(claim) if continues else claims.forget(claim))
        raise
    except BaseException:
        await claims.release(claim)
        raise
    await claims.complete(claim, reply)
    return reply


def _fingerprint(pairs: Sequence[tuple[str, str]], files: Sequence[CheckedFile | Problem]) -> str:
    """A hash that is equal for equal requests: of the parsed fields and the files' hashes.

    The raw body is no measure: the multipart boundary in it is random.
    """
    content = [[file.name, file.sha256] if isinstance(file, CheckedFile) else ["refused", file.code] for file in files]
    return hashlib.sha256(json.dumps([sorted(pairs), content]).encode()).hexdigest()


def _scope(method: str, path: str, owner: Owner | None, key: str) -> str:
    """A hash of all that a key is unique in: method, path and owner. JSON separates the parts unambiguously."""
    parts = json.dumps([method, path, owner.key if owner else None, key])
    return hashlib.sha256(parts.encode()).hexdigest()
