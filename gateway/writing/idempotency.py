"""Runs a request's work once per `Idempotency-Key`; without the header, every time."""

import hashlib
import json
import re
from collections.abc import Awaitable, Callable, Sequence

from fastapi import Request

from gateway.http.problems import Problem
from gateway.ids import Ids
from gateway.receiving.checking import CheckedFile
from gateway.services.claims import Reply
from gateway.services.container import Services
from shared.contract.keys import Owner

HEADER = "Idempotency-Key"
_ACCEPTABLE = re.compile(r"[\x21-\x7e](?:[\x20-\x7e]{0,253}[\x21-\x7e])?")

Work = Callable[[Sequence[Ids]], Awaitable[Reply]]
"""Does the request's work under these ids."""


def fingerprint_of(pairs: Sequence[tuple[str, str]], files: Sequence[CheckedFile | Problem]) -> str:
    """What makes two requests the same: parsed fields and file hashes, not the raw body with its random boundary."""
    content = [[file.name, file.sha256] if isinstance(file, CheckedFile) else ["refused", file.code] for file in files]
    return hashlib.sha256(json.dumps([sorted(pairs), content]).encode()).hexdigest()


def scope_of(method: str, path: str, owner: Owner | None, key: str) -> str:
    """What a key is unique in: method, path and owner. JSON keeps the parts apart, whatever is in them."""
    parts = json.dumps([method, path, owner.key if owner else None, key])
    return hashlib.sha256(parts.encode()).hexdigest()


async def once(
    services: Services, request: Request, owner: Owner | None, fingerprint: str, ids: Sequence[Ids], work: Work
) -> Reply:
    """The reply of the work, done at most once per Idempotency-Key. Raises Problem, Unavailable, and what it raises."""
    key = request.headers.get(HEADER)
    if key is None:
        return await work(ids)
    if not _ACCEPTABLE.fullmatch(key):
        raise Problem("bad_request", f"{HEADER} takes 1 to 255 printable ASCII characters")
    return await once_in(services, scope_of(request.method, request.url.path, owner, key), fingerprint, ids, work)


async def once_in(services: Services, scope: str, fingerprint: str, ids: Sequence[Ids], work: Work) -> Reply:
    """The reply of the work, done at most once in the scope."""
    claims = services.claims
    claim = await claims.claim(scope, fingerprint, ids)
    if isinstance(claim, Reply):
        return claim
    try:
        reply = await work(claim.row.ids)
    except Problem as error:
        # Refused with 4xx: nothing was changed, and the key is free again. Else a retry goes on with the same ids.
        await (claims.forget(claim) if error.status < 500 else claims.release(claim))
        raise
    except BaseException:
        await claims.release(claim)
        raise
    await claims.complete(claim, reply)
    return reply
