"""GET of lists, images and their status documents."""

from typing import Annotated, Any

from fastapi import APIRouter, Depends, Request, Response
from pydantic import RootModel
from werkzeug.datastructures import RequestCacheControl
from werkzeug.http import parse_cache_control_header, quote_etag
from werkzeug.sansio.http import is_resource_modified

from gateway.http.openapi import described, problem_responses
from gateway.http.problems import Problem
from gateway.http.schemas import ImageDocument
from gateway.reading.anchors import MAX_OFFSET
from gateway.reading.lists import DEFAULT_LIMIT, MAX_LIMIT, ListQuery
from gateway.reading.media import respond
from gateway.reading.queries import Queries
from gateway.services.container import ServicesDep
from shared.errors import NotFound

router = APIRouter(tags=["images"])


class ImageListDocument(RootModel[list[ImageDocument]]):
    """A page of a list."""


REVALIDATE = "no-cache"
"""Cache-Control of everything whose content changes under one URL: keep it, but ask each time."""


async def queries(request: Request, services: ServicesDep) -> Queries:
    """FastAPI dependency: the app's reads, made when first asked for; what is not there caches nothing stale."""
    found: Queries | None = getattr(request.app.state, "queries", None)
    if found is None:
        found = request.app.state.queries = Queries(services)
    return found


QueriesDep = Annotated[Queries, Depends(queries)]


def wants_fresh(request: Request) -> bool:
    """Whether the client asks to go past the caches: `Cache-Control: no-cache`."""
    control = parse_cache_control_header(request.headers.get("cache-control"), cls=RequestCacheControl)
    return bool(control.no_cache)


def json_response(request: Request, body: bytes, etag: str, headers: dict[str, str]) -> Response:
    """JSON with its ETag, or 304 where the client has it."""
    quoted = quote_etag(etag)
    headers = {"ETag": quoted, "Cache-Control": REVALIDATE, "X-Content-Type-Options": "nosniff", **headers}
    if not is_resource_modified(http_if_none_match=request.headers.get("if-none-match"), etag=quoted):
        return Response(status_code=304, headers=headers)
    if request.method == "HEAD":
        return Response(headers={**headers, "Content-Type": "application/json", "Content-Length": str(len(body))})
    return Response(body, headers=headers, media_type="application/json")


def _query(name: str, description: str, schema: dict[str, Any]) -> dict[str, Any]:
    return {"name": name, "in": "query", "required": False, "description": description, "schema": schema}


BYTES: dict[int | str, dict[str, Any]] = {
    200: {"description": "The whole file.", "content": {"image/*": {}}},
    206: {"description": "The range that was asked for.", "content": {"image/*": {}}},
    304: {"description": "The client has it already."},
}
"""OpenAPI's description of answers with bytes."""
BYTES_PROBLEMS = ("precondition_failed", "range_not_satisfiable")

LIST_PARAMETERS = [
    _query(
        "limit",
        "Most images of the page.",
        {"type": "integer", "minimum": 1, "maximum": MAX_LIMIT, "default": DEFAULT_LIMIT},
    ),
    _query(
        "offset",
        "How many of the newest images to leave out. Not together with `cursor`, which is exact and faster.",
        {"type": "integer", "minimum": 0, "maximum": MAX_OFFSET, "default": 0},
    ),
    _query("cursor", 'Opaque; taken from the URL that `Link: rel="next"` gives.', {"type": "string"}),
    _query("owner_type", "Only this owner's images, with `owner_id`; or `<type>_id=<id>`.", {"type": "string"}),
    _query("owner_id", "See `owner_type`.", {"type": "string"}),
    _query("user_id", "Shorthand for the owner type `user`; any `<type>_id` works alike.", {"type": "string"}),
]


@router.get(
    "/images",
    summary="List images, newest first",
    **described(
        (200, "Status documents.", ImageListDocument),
        (304, "The client has this page already.", None),
        problems=("invalid_owner", "invalid_paging", "invalid_cursor"),
        parameters=LIST_PARAMETERS,
    ),
)
@router.head("/images", include_in_schema=False)
async def list_images(request: Request, reads: QueriesDep) -> Response:
    """A JSON list of status documents. `Link` has the URL of the next page; an `ETag` saves what has not changed.

    Pages are cached for about a second; what was written through the same gateway is seen at once, and
    `Cache-Control: no-cache` goes past the cache.
    """
    query = ListQuery.parse(request.query_params.multi_items())
    page = await reads.lists.page(query, fresh=wants_fresh(request))
    link = {"Link": f'<{page.next_url}>; rel="next"'} if page.next_url else {}
    return json_response(request, page.body, page.etag, link)


@router.get(
    "/images/{image_id}/metadata",
    summary="Status document of an image",
    **described(
        (200, "The status document.", ImageDocument),
        (304, "The client has it already.", None),
        problems=("not_found",),
    ),
)
@router.head("/images/{image_id}/metadata", include_in_schema=False)
async def image_metadata(image_id: str, request: Request, reads: QueriesDep) -> Response:
    """Owner, status, and what is served: original and variants with their URLs and sizes."""
    row = await reads.image(image_id, fresh=wants_fresh(request))
    found = reads.status_document(row)
    return json_response(request, found.body, found.etag, {})


@router.get(
    "/images/{image_id}",
    summary="Bytes of an image",
    response_class=Response,
    responses=BYTES
    | problem_responses("not_found", "no_such_variant", "variant_not_ready", "render_failed", *BYTES_PROBLEMS),
)
@router.head("/images/{image_id}", include_in_schema=False)
async def image_bytes(
    image_id: str, request: Request, services: ServicesDep, reads: QueriesDep, variant: str | None = None
) -> Response:
    """The original, or a variant (`full`, `large`, `medium`, `small`); ranges and conditional requests work.

    While a replacement is under way the previous revision answers.
    """
    for fresh in (wants_fresh(request), True):
        row = await reads.image(image_id, fresh=fresh)
        served = reads.served(row, variant)
        try:
            return await respond(request, services.store, served, {"Cache-Control": REVALIDATE})
        except NotFound:
            # The row may have been read just before a replacement or a deletion; the second one is of now.
            continue
    raise Problem("not_found", "the bytes of this image are gone")
