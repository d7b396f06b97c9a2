"""Reads lists, images and their status documents."""

from functools import lru_cache

from fastapi import APIRouter, Request, Response
from pydantic import RootModel
from starlette.datastructures import QueryParams

from gateway.container import ServicesDep
from gateway.http.cache_control import REVALIDATE, wants_fresh
from gateway.http.direct_route import DirectRoute
from gateway.http.openapi import (
    BYTES_PROBLEMS,
    BYTES_RESPONSES,
    ImageIdText,
    described,
    problem_responses,
    query_parameter,
)
from gateway.http.problems import Problem
from gateway.http.schemas import ImageDocument, ListedImageDocument
from gateway.reading.anchors import MAX_OFFSET
from gateway.reading.lists import DEFAULT_LIMIT, MAX_LIMIT, ListQuery
from gateway.reading.media import respond
from gateway.reading.served import served_image
from shared.errors import NotFound

router = APIRouter(tags=["images"], route_class=DirectRoute)
bytes_router = APIRouter(tags=["images"])
"""The route whose handler has a query parameter."""


class ImageListDocument(RootModel[list[ListedImageDocument]]):
    """A page of a list."""


PARSED_QUERIES = 128
"""Query strings of lists that are not parsed again. Each fits in a request head, so all have at most 8 MB."""


@lru_cache(PARSED_QUERIES)
def list_query(query_string: bytes) -> ListQuery:
    """The page that a query string asks for. Raises Problem `invalid_owner`, `invalid_paging` or `invalid_cursor`."""
    return ListQuery.parse(QueryParams(query_string).multi_items())


LIST_PARAMETERS = [
    query_parameter(
        "limit",
        "Maximum number of images in the page.",
        {"type": "integer", "minimum": 1, "maximum": MAX_LIMIT, "default": DEFAULT_LIMIT},
    ),
    query_parameter(
        "offset",
        "How many of the newest images to skip. A `cursor` is exact and faster; send only one of the two.",
        {"type": "integer", "minimum": 0, "maximum": MAX_OFFSET, "default": 0},
    ),
    query_parameter("cursor", 'Opaque; a part of the URL in the header `Link` with `rel="next"`.', {"type": "string"}),
    query_parameter("owner_type", "Only the images of this owner. Needs `owner_id`.", {"type": "string"}),
    query_parameter("owner_id", "Id of the owner. Needs `owner_type`.", {"type": "string"}),
    query_parameter("user_id", "Shorthand for the owner type `user`; any `<type>_id` works.", {"type": "string"}),
]


@router.get(
    "/images",
    summary="List images, newest first",
    **described(
        (200, "Status documents.", ImageListDocument),
        (304, "The client's copy is current.", None),
        problems=("invalid_owner", "invalid_paging", "invalid_cursor"),
        parameters=LIST_PARAMETERS,
    ),
)
@router.head("/images", include_in_schema=False)
async def list_images(request: Request, services: ServicesDep) -> Response:
    """A JSON list of status documents. The header `Link` has the URL of the next page (`rel="next"`).

    `rel="monitor"` is a stream of live events that continues the list: it has every event that the page may lack.

    The gateway caches pages for about a second. Changes through the same gateway are visible immediately. With
    `Cache-Control: no-cache` the gateway reads the page again. With `If-None-Match` an unchanged page is 304.
    """
    page = await services.lists.page(list_query(request.scope["query_string"]), fresh=wants_fresh(request))
    return page.response(request)


@router.get(
    "/images/{image_id}/metadata",
    summary="Status document of an image",
    **described(
        (200, "The status document.", ImageDocument),
        (304, "The client's copy is current.", None),
        problems=("not_found",),
    ),
)
@router.head("/images/{image_id}/metadata", include_in_schema=False)
async def image_metadata(image_id: ImageIdText, request: Request, services: ServicesDep) -> Response:
    """The owner and the status of an image, and its original and variants with their URLs and sizes.

    The header `Link` (`rel="monitor"`) has the URL of a stream with all later events of the image.
    """
    found = await services.image_rows.status(image_id, fresh=wants_fresh(request))
    return found.response(request)


@bytes_router.get(
    "/images/{image_id}",
    summary="Bytes of an image",
    response_class=Response,
    responses=BYTES_RESPONSES
    | problem_responses("not_found", "no_such_variant", "variant_not_ready", "render_failed", *BYTES_PROBLEMS),
)
@bytes_router.head("/images/{image_id}", include_in_schema=False)
async def image_bytes(
    image_id: ImageIdText, request: Request, services: ServicesDep, variant: str | None = None
) -> Response:
    """The original, or one variant, such as `full` or `small`. Supports ranges and conditional requests.

    During a replacement this is the previous revision, until the new one is ready.
    """
    for fresh in (wants_fresh(request), True):
        row = await services.image_rows.get(image_id, fresh=fresh)
        served = served_image(
            row,
            variant,
            public_originals=services.settings.public_originals,
            variant_names=services.settings.ladder.names,
        )
        try:
            return await respond(request, services.store, served, REVALIDATE)
        except NotFound:
            # The row may be older than a replacement or a deletion. Read it again, past the cache.
            continue
    raise Problem("not_found", "the file of this image was deleted")
