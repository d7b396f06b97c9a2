"""The CDN's origin for the private bucket: originals and variants of images that exist."""

import math
from datetime import timedelta

from fastapi import APIRouter, Request, Response

from gateway.http.openapi import problem_responses
from gateway.http.problems import Problem
from gateway.reading.media import respond
from gateway.routes.reads import BYTES, BYTES_PROBLEMS, QueriesDep, wants_fresh
from gateway.services.container import ServicesDep
from shared.contract.keys import parse_media_path
from shared.errors import NotFound

router = APIRouter(tags=["media"])


def _seconds(duration: timedelta) -> int:
    return math.ceil(duration.total_seconds())


@router.get(
    "/media/{path:path}",
    summary="An original or a variant",
    response_class=Response,
    responses=BYTES | problem_responses("no_such_media", *BYTES_PROBLEMS),
)
@router.head("/media/{path:path}", include_in_schema=False)
async def media(path: str, request: Request, services: ServicesDep, reads: QueriesDep) -> Response:
    """The object under the `path` of a status document. The content of a URL never changes, so caches may keep it.

    A deleted image is 404 at once. A superseded revision's URL answers until its objects are swept.
    """
    settings = services.settings
    # A 404 is kept no longer than a row is, so that a CDN does not remember one for minutes on its own account.
    missing = Problem(
        "no_such_media",
        "there is no file under this path",
        headers={"Cache-Control": f"public, max-age={_seconds(settings.list_cache_ttl)}"},
    )
    parsed = parse_media_path(path)
    row = await reads.row(parsed.image_id, fresh=wants_fresh(request)) if parsed else None
    if parsed is None or row is None:
        raise missing
    lifetime = f"public, max-age={_seconds(settings.media_max_age)}, immutable"
    try:
        return await respond(request, services.store, reads.media(row, parsed), {"Cache-Control": lifetime})
    except NotFound:
        raise missing from None
