"""Replaces the bytes of one image, or all images of an owner."""

from collections.abc import Sequence
from uuid import UUID

from fastapi import APIRouter, Request
from starlette.responses import JSONResponse

from gateway.container import Services, ServicesDep
from gateway.http.openapi import (
    FILE_FORM_WITHOUT_OWNER,
    FILE_PROBLEMS,
    FILES_FORM,
    IF_MATCH_HEADER,
    KEY_HEADER,
    OWNER_PARAMETERS,
    PREFER_HEADER,
    ImageId,
    described,
)
from gateway.http.owner_query import owner_from_pairs, pairs_of, writable_owner
from gateway.http.preconditions import refuse_condition, required_versions
from gateway.http.problems import Problem
from gateway.http.schemas import ImageDocument, ImagesDocument
from gateway.services.claims import Reply
from gateway.writing.idempotency import once
from gateway.writing.replacing import replace_image, replace_set
from gateway.writing.replies import many_reply, respond, single_reply
from shared.contract.keys import Ids

router = APIRouter(tags=["replace"])


@router.put(
    "/images/{image_id}",
    **described(
        (202, "Accepted. The gateway serves the previous variants until the new ones are ready.", ImageDocument),
        (200, "After `Prefer: wait`: the new variants are ready, or the image failed.", ImageDocument),
        problems=(*FILE_PROBLEMS, "not_found", "precondition_failed"),
        body=FILE_FORM_WITHOUT_OWNER,
        parameters=[IF_MATCH_HEADER, KEY_HEADER, PREFER_HEADER],
    ),
)
async def put_image(image_id: ImageId, request: Request, services: ServicesDep) -> JSONResponse:
    """Replace the bytes of an image. Its id and its owner stay, its URLs change. If this fails, the old bytes stay.

    With `If-Match` the image is replaced only if it has this version: not if another request has replaced it since.
    """
    return await respond(request, await _replace_image(image_id, request, services), services.waiting)


async def _replace_image(image_id: UUID, request: Request, services: Services) -> Reply:
    versions = required_versions(request.headers.getlist("if-match"))
    async with services.forms.receive(request, files=1) as form:
        pairs = pairs_of(request, form.fields)
        if owner_from_pairs(pairs) is not None:
            raise Problem("invalid_owner", "the owner of an image never changes: select no owner")
        file = await services.forms.check_only(form)

        async def work(ids: Sequence[Ids]) -> Reply:
            accepted = await replace_image(
                services.index, services.uploads, services.successions, image_id, file, ids[0].revision, versions
            )
            return single_reply(accepted, services.base_url)

        return await once(request, services.claims, None, pairs, [file], work)


@router.put(
    "/images",
    **described(
        (202, "Accepted. The owner's other images are deleted.", ImagesDocument),
        (200, "After `Prefer: wait`: each image is ready or failed.", ImagesDocument),
        problems=FILE_PROBLEMS,
        body=FILES_FORM,
        parameters=[*OWNER_PARAMETERS, KEY_HEADER, PREFER_HEADER],
    ),
)
async def put_owner(request: Request, services: ServicesDep) -> JSONResponse:
    """Make the owner's images exactly these files. If one file is refused, nothing changes.

    If the owner has one image and the request has one file, the image keeps its id.
    """
    return await respond(request, await _replace_set(request, services), services.waiting)


async def _replace_set(request: Request, services: Services) -> Reply:
    refuse_condition(request.headers.getlist("if-match"))
    async with services.forms.receive(request, files=services.settings.max_files_per_request) as form:
        pairs = pairs_of(request, form.fields)
        owner = writable_owner(pairs)
        if owner is None:
            raise Problem("invalid_owner", "select the owner whose images this request replaces")
        files = await services.forms.check_all(form)

        async def work(ids: Sequence[Ids]) -> Reply:
            async with services.set_leases.hold(owner) as lease:
                results = await replace_set(services.index, services.uploads, lease, owner, files, ids)
            return many_reply(results, services.base_url)

        return await once(request, services.claims, owner, pairs, files, work)
