"""Deletes an image by its id or by the URL of its original, or all images of an owner."""

from uuid import UUID

import structlog
from fastapi import APIRouter, Request
from starlette.responses import Response

from gateway.container import Services, ServicesDep
from gateway.http.openapi import IF_MATCH_HEADER, OWNER_PARAMETERS, URL_PARAMETER, ImageId, described
from gateway.http.owner_query import pairs_of, writable_owner
from gateway.http.preconditions import refuse_condition, required_versions
from gateway.http.problems import Problem
from gateway.writing.removal import clear_owner, delete_image, delete_version
from shared.contract.keys import image_id_from_url

router = APIRouter(tags=["delete"])


@router.delete(
    "/images/{image_id}",
    **described(
        (204, "Deleted: no longer visible; the bucket's objects are deleted soon after.", None),
        problems=("not_found", "in_flight", "precondition_failed"),
        parameters=[IF_MATCH_HEADER],
    ),
)
async def delete_by_id(image_id: ImageId, request: Request, services: ServicesDep) -> Response:
    """Delete an image. This is final. A second delete of the same image is 404.

    With `If-Match` the image is deleted only if it has this version: not if another request has replaced it since.
    """
    await _delete(image_id, request, services)
    return Response(status_code=204)


async def _delete(image_id: UUID, request: Request, services: Services) -> None:
    versions = required_versions(request.headers.getlist("if-match"))
    if versions is None:
        await delete_image(services.index, services.journal, image_id)
    else:
        await delete_version(services.index, services.journal, services.successions, image_id, versions)


@router.delete(
    "/images",
    **described(
        (204, "Deleted. For an owner this is the response even if the owner had no image.", None),
        problems=("bad_request", "invalid_owner", "reserved_owner", "not_found", "in_flight", "precondition_failed"),
        parameters=[URL_PARAMETER, *OWNER_PARAMETERS, IF_MATCH_HEADER],
    ),
)
async def delete_by_selector(request: Request, services: ServicesDep) -> Response:
    """Delete the image whose original has this URL, or every image of an owner. Send exactly one selector."""
    urls = request.query_params.getlist("url")
    owner = writable_owner(pairs_of(request))
    if len(urls) + (owner is not None) != 1:
        raise Problem("bad_request", "send exactly one selector: `url`, or an owner")
    if owner is not None:
        refuse_condition(request.headers.getlist("if-match"))
        await clear_owner(services.index, services.journal, owner)
        return Response(status_code=204)
    image_id = image_id_from_url(urls[0])
    if image_id is None:
        raise Problem("not_found", "the URL is not the URL of an original")
    structlog.contextvars.bind_contextvars(image_id=str(image_id))
    await _delete(image_id, request, services)
    return Response(status_code=204)
