"""Uploads: POST /upload for one file with a short response, POST /images for one or many files."""

from collections.abc import Sequence

from fastapi import APIRouter, Request
from starlette.responses import JSONResponse

from gateway.container import Services, ServicesDep
from gateway.http.openapi import (
    FILE_FORM,
    FILE_PROBLEMS,
    FILES_FORM,
    INCOMING,
    INGEST_PROBLEMS,
    KEY_HEADER,
    OWNER_PARAMETERS,
    PREFER_HEADER,
    described,
)
from gateway.http.owner_query import pairs_of, writable_owner
from gateway.http.problems import Problem
from gateway.http.schemas import ImageDocument, ImagesDocument, UploadedDocument
from gateway.receiving.body import read_json_object, scalar_fields
from gateway.services.admission import client_address
from gateway.services.claims import Reply
from gateway.writing.idempotency import once, once_in_scope, requested_key
from gateway.writing.ingest import check_key, copy_incoming, read_incoming
from gateway.writing.replies import many_reply, respond, single_reply
from shared.contract.keys import Ids

router = APIRouter(tags=["upload"])


@router.post(
    "/upload",
    **described(
        (201, "The original is stored and its command is in the log.", UploadedDocument),
        problems=FILE_PROBLEMS,
        body=FILE_FORM,
        parameters=[*OWNER_PARAMETERS, KEY_HEADER],
    ),
)
async def upload(request: Request, services: ServicesDep) -> JSONResponse:
    """Upload one image in the field `image`; the response has its id."""
    async with services.forms.receive(request, files=1) as form:
        pairs = pairs_of(request, form.fields)
        owner = writable_owner(pairs)
        file = await services.forms.check_only(form)

        async def work(ids: Sequence[Ids]) -> Reply:
            accepted = await services.uploads.upload(file, ids[0], owner)
            return Reply(201, {"image_id": str(accepted.row.image_id), "status": "success"}, {})

        reply = await once(request, services.claims, owner, pairs, [file], work)
    return await respond(request, reply, services.waiting)


@router.post(
    "/images",
    **described(
        (202, "Accepted. The variants will be ready soon.", ImageDocument | ImagesDocument),
        (200, "After `Prefer: wait`: each image is ready or failed.", ImageDocument | ImagesDocument),
        problems=(*FILE_PROBLEMS, *INGEST_PROBLEMS, "none_accepted"),
        body=FILES_FORM | INCOMING,
        parameters=[*OWNER_PARAMETERS, KEY_HEADER, PREFER_HEADER],
    ),
)
async def upload_images(request: Request, services: ServicesDep) -> JSONResponse:
    """Upload one or many images, with an owner or without.

    The response to one file is its status document, the response to many files is a list. A file that is refused does
    not affect the others: the list has a problem document in its place. A JSON body names an object that the client
    has put into the bucket with a temporary key.
    """
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    reply = await (_ingest if kind == "application/json" else _upload_files)(request, services)
    return await respond(request, reply, services.waiting)


async def _upload_files(request: Request, services: Services) -> Reply:
    async with services.forms.receive(request, files=services.settings.max_files_per_request) as form:
        pairs = pairs_of(request, form.fields)
        owner = writable_owner(pairs)
        files = await services.forms.check_each(form)
        if len(files) == 1 and isinstance(files[0], Problem):
            raise files[0]

        async def work(ids: Sequence[Ids]) -> Reply:
            results = await services.uploads.upload_batch(files, ids, owner)
            if len(files) == 1:
                return single_reply(results[0], services.base_url)
            return many_reply(results, services.base_url)

        return await once(request, services.claims, owner, pairs, files, work)


async def _ingest(request: Request, services: Services) -> Reply:
    # The object's key and ETag make an ingest idempotent. The header has no effect here, but it must be valid.
    requested_key(request)
    with services.admission.admit(client_address(request)) as reservation:
        body = await read_json_object(request, services.pace)
        owner = writable_owner(pairs_of(request, scalar_fields(body)))
        if owner is None:
            raise Problem("invalid_owner", "select the owner whose temporary key put the object")
        key = check_key(body.get("incoming"), owner)
        reservation.grow(services.file_limits.file_bytes)
        incoming = await read_incoming(services.store, key, services.file_limits)

        async def work(ids: Sequence[Ids]) -> Reply:
            await copy_incoming(services.store, incoming, ids[0])
            accepted = await services.uploads.append_upload(incoming.file, ids[0], owner)
            return single_reply(accepted, services.base_url)

        return await once_in_scope(services.claims, incoming.scope, incoming.file.sha256, [Ids.mint()], work)
