"""Serves originals and variants under immutable URLs. This is the origin of a CDN before the private bucket."""

from fastapi import APIRouter, Request, Response

from gateway.container import ServicesDep
from gateway.http.cache_control import cacheable, wants_fresh
from gateway.http.direct_route import DirectRoute
from gateway.http.openapi import BYTES_PROBLEMS, BYTES_RESPONSES, MediaPathText, problem_responses
from gateway.http.problems import Problem
from gateway.reading.media import respond
from gateway.reading.served import served_media
from shared.contract.keys import parse_media_path
from shared.errors import NotFound

router = APIRouter(tags=["media"], route_class=DirectRoute)


@router.get(
    "/media/{path:path}",
    summary="An original or a variant",
    response_class=Response,
    responses=BYTES_RESPONSES | problem_responses("no_such_media", *BYTES_PROBLEMS),
)
@router.head("/media/{path:path}", include_in_schema=False)
async def media(path: MediaPathText, request: Request, services: ServicesDep) -> Response:
    """The object under the `path` of a status document. The content of a URL never changes, so caches may keep it.

    A deleted image is 404 immediately. The URLs of a superseded revision work until the sweep deletes its objects.
    """
    settings = services.settings
    # Without this header a CDN may cache a 404 for minutes. It lasts as long as a cached row.
    missing = Problem("no_such_media", "there is no file under this path", headers=cacheable(settings.list_cache_ttl))
    parsed = parse_media_path(path)
    row = await services.image_rows.find(parsed.image_id, fresh=wants_fresh(request)) if parsed else None
    if parsed is None or row is None:
        raise missing
    served = served_media(row, parsed, public_originals=settings.public_originals)
    try:
        return await respond(request, services.store, served, cacheable(settings.media_max_age, immutable=True))
    except NotFound:
        raise missing from None
