"""Replacing: PUT of one image's bytes, or of an owner's whole set."""

from collections.abc import Sequence
from uuid import UUID

from fastapi import APIRouter, Request
from starlette.responses import JSONResponse

from gateway.http.openapi import (
    FILE_FORM_WITHOUT_OWNER,
    FILE_PROBLEMS,
    FILES_FORM,
    KEY_HEADER,
    OWNER_PARAMETERS,
    PREFER_HEADER,
    described,
)
from gateway.http.owner_query import owner_from_pairs
from gateway.http.problems import Problem
from gateway.http.schemas import ImageDocument, ImagesDocument
from gateway.ids import Ids
from gateway.receiving.form import all_files, only_file, pairs_of, received_form, writable_owner
from gateway.services.claims import Reply
from gateway.services.container import Services, ServicesDep
from gateway.writing.idempotency import fingerprint_of, once
from gateway.writing.removal import existing
from gateway.writing.replacing import replace_image, replace_set
from gateway.writing.replies import many_reply, respond, single_reply

router = APIRouter(tags=["replace"])


@router.put(
    "/images/{image_id}",
    **described(
        (202, "Accepted; the previous variants are served until the new ones are ready.", ImageDocument),
        (200, "The new variants are ready, or cannot be made: after `Prefer: wait`.", ImageDocument),
        problems=(*FILE_PROBLEMS, "not_found"),
        body=FILE_FORM_WITHOUT_OWNER,
        parameters=[KEY_HEADER, PREFER_HEADER],
    ),
)
async def put_image(image_id: UUID, request: Request, services: ServicesDep) -> JSONResponse:
    """Replace an image's bytes; its id and owner stay, its URLs change. If this fails the old image stays."""
    return await respond(request, services, await _replace_image(image_id, request, services))


async def _replace_image(image_id: UUID, request: Request, services: Services) -> Reply:
    async with received_form(request, services, files=1) as form:
        pairs = pairs_of(request, form.fields)
        if owner_from_pairs(pairs) is not None:
            raise Problem("invalid_owner", "an image's owner never changes: give the id only")
        file = await only_file(form, services.settings)

        async def work(ids: Sequence[Ids]) -> Reply:
            row = await existing(services, image_id)
            return single_reply(services, await replace_image(services, file, ids[0], row))

        return await once(services, request, None, fingerprint_of(pairs, [file]), [Ids.mint()], work)


@router.put(
    "/images",
    **described(
        (202, "Accepted; the owner's other images are gone.", ImagesDocument),
        (200, "Every image is settled: after `Prefer: wait`.", ImagesDocument),
        problems=FILE_PROBLEMS,
        body=FILES_FORM,
        parameters=[*OWNER_PARAMETERS, KEY_HEADER, PREFER_HEADER],
    ),
)
async def put_owner(request: Request, services: ServicesDep) -> JSONResponse:
    """Make an owner's images exactly these files. Nothing happens unless all of them are acceptable.

    One file for an owner who has one image replaces it in place: its id stays.
    """
    return await respond(request, services, await _replace_set(request, services))


async def _replace_set(request: Request, services: Services) -> Reply:
    async with received_form(request, services, files=services.settings.max_files_per_request) as form:
        pairs = pairs_of(request, form.fields)
        owner = writable_owner(pairs)
        if owner is None:
            raise Problem("invalid_owner", "name the owner whose images these files shall be")
        files = await all_files(form, services.settings)

        async def work(ids: Sequence[Ids]) -> Reply:
            return many_reply(services, await replace_set(services, owner, files, ids))

        return await once(services, request, owner, fingerprint_of(pairs, files), [Ids.mint() for _ in files], work)
