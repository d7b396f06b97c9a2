"""Streams live events: those of all images, of some owners, or of one image."""

from collections.abc import AsyncIterator
from typing import Annotated, Any

from fastapi import APIRouter, Query, Request
from fastapi.sse import EventSourceResponse
from starlette.responses import Response

from gateway.container import Services, ServicesDep
from gateway.events.listeners import Selection, TooManyListeners
from gateway.events.position import Position
from gateway.http.openapi import ImageId, problem_responses, query_parameter
from gateway.http.owner_query import owners_from_pairs
from gateway.http.problems import Problem
from shared.contract.json_schema import EVENTS

router = APIRouter(tags=["events"])

HEADERS = {
    "Cache-Control": "no-store",
    # nginx passes each event on at once.
    "X-Accel-Buffering": "no",
}
RETRY_AFTER = {"Retry-After": "5"}
LAST_EVENT_ID = "Last-Event-ID"

RESPONSES: dict[int | str, dict[str, Any]] = {
    200: {
        "description": "Server-sent events. The name is the type of the event, the data is its JSON as in Kafka.",
        "content": {EventSourceResponse.media_type: {"schema": {"type": "string"}}},
    },
    **problem_responses("bad_request", "invalid_owner", "too_many_listeners"),
}
PARAMETERS = [
    {
        "name": LAST_EVENT_ID,
        "in": "header",
        "required": False,
        "description": "The `id` of the last event that the client has handled. The stream goes on after it.",
        "schema": {"type": "string"},
    },
    query_parameter(
        "last_event_id", "The same for a first connection, where browsers send no header.", {"type": "string"}
    ),
]
OWNERS = query_parameter(
    "user_id",
    "Only events of this owner. Any `<type>_id` works, also several times, and so do `owner_type` with `owner_id`.",
    {"type": "array", "items": {"type": "string"}},
)

Types = Annotated[list[str], Query(alias="type", description="Only events of this type. May be repeated.")]


@router.get(
    "/events",
    summary="Follow live events",
    response_class=Response,
    responses=RESPONSES,
    openapi_extra={"parameters": [*PARAMETERS, OWNERS]},
)
@router.head("/events", include_in_schema=False)
async def events(request: Request, services: ServicesDep, types: Types = []) -> Response:  # noqa: B006 - never changed
    """All events, or those of some owners and types, from now on or after `Last-Event-ID`.

    If the events since then are no longer kept, the first one is `resync`: read the list again. A client that comes
    back within ten minutes (a setting) misses nothing.
    """
    if unknown := sorted(set(types) - EVENTS.keys()):
        raise Problem("bad_request", f"type: {unknown[0]!r} is none of {', '.join(sorted(EVENTS))}")
    owners = owners_from_pairs(request.query_params.multi_items())
    return _respond(request, services, Selection(owners, frozenset(types)))


@router.get(
    "/images/{image_id}/events",
    summary="Follow the events of one image",
    response_class=Response,
    responses=RESPONSES,
    openapi_extra={"parameters": PARAMETERS},
)
@router.head("/images/{image_id}/events", include_in_schema=False)
async def image_events(image_id: ImageId, request: Request, services: ServicesDep) -> Response:
    """The events of one image, from now on or after `Last-Event-ID`."""
    return _respond(request, services, Selection(image_id=image_id))


def _respond(request: Request, services: Services, selection: Selection) -> Response:
    last_id = request.headers.get(LAST_EVENT_ID, request.query_params.get("last_event_id"))
    if last_id is not None and Position.parse(last_id) is None:
        raise Problem("bad_request", "Last-Event-ID must be the id of an event of such a stream")
    try:
        services.listeners.check()
    except TooManyListeners:
        raise Problem("too_many_listeners", "too many streams are open", headers=RETRY_AFTER) from None
    if request.method == "HEAD":
        return Response(headers=HEADERS, media_type=EventSourceResponse.media_type)
    stream: AsyncIterator[bytes] = services.listeners.stream(selection, last_id)
    return EventSourceResponse(stream, headers=HEADERS)
