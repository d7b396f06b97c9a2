"""Deleting by id, by the URL of the original, by owner."""

from uuid import UUID

import structlog
from fastapi import APIRouter, Request
from starlette.responses import Response

from gateway.http.openapi import OWNER_PARAMETERS, URL_PARAMETER, described
from gateway.http.problems import Problem
from gateway.receiving.form import pairs_of, writable_owner
from gateway.services.container import ServicesDep
from gateway.writing.removal import clear_owner, delete_image
from shared.contract.keys import image_id_from_url

router = APIRouter(tags=["delete"])


@router.delete(
    "/images/{image_id}",
    **described((204, "Deleted: invisible at once, out of the bucket soon after.", None), problems=("not_found",)),
)
async def delete_by_id(image_id: UUID, services: ServicesDep) -> Response:
    """Delete an image, for good. Deleting it again is 404."""
    await delete_image(services, image_id)
    return Response(status_code=204)


@router.delete(
    "/images",
    **described(
        (204, "Deleted; for an owner also where there was nothing.", None),
        problems=("bad_request", "invalid_owner", "reserved_owner", "not_found"),
        parameters=[URL_PARAMETER, *OWNER_PARAMETERS],
    ),
)
async def delete_by_selector(request: Request, services: ServicesDep) -> Response:
    """Delete the image whose original has this URL, or every image of an owner. Just one selector must be given."""
    urls = request.query_params.getlist("url")
    owner = writable_owner(pairs_of(request))
    if len(urls) + (owner is not None) != 1:
        raise Problem("bad_request", "give just one of: url, an owner")
    if owner is not None:
        await clear_owner(services, owner)
        return Response(status_code=204)
    image_id = image_id_from_url(urls[0])
    if image_id is None:
        raise Problem("not_found", "the URL is not that of an original here")
    structlog.contextvars.bind_contextvars(image_id=str(image_id))
    await delete_image(services, image_id)
    return Response(status_code=204)
