"""Uploading: POST /upload for one file and a plain answer, POST /images for one or many with an owner."""

from collections.abc import Sequence

from fastapi import APIRouter, Request
from starlette.responses import JSONResponse

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
from gateway.http.problems import Problem
from gateway.http.schemas import ImageDocument, ImagesDocument, UploadedDocument
from gateway.ids import Ids
from gateway.receiving.form import (
    checked,
    json_object,
    only_file,
    pairs_of,
    received_form,
    scalar_fields,
    writable_owner,
)
from gateway.services.claims import Reply
from gateway.services.container import Services, ServicesDep
from gateway.writing.idempotency import fingerprint_of, once
from gateway.writing.ingest import check_key, ingest
from gateway.writing.replies import many_reply, respond, single_reply
from gateway.writing.uploads import announce_upload, put_original, store_one, upload_batch

router = APIRouter(tags=["upload"])


@router.post(
    "/upload",
    **described(
        (201, "The original is stored and its request is in the log.", UploadedDocument),
        problems=FILE_PROBLEMS,
        body=FILE_FORM,
        parameters=[*OWNER_PARAMETERS, KEY_HEADER],
    ),
)
async def upload(request: Request, services: ServicesDep) -> JSONResponse:
    """Upload one image in the field `image`; the answer is its id."""
    async with received_form(request, services, files=1) as form:
        pairs = pairs_of(request, form.fields)
        owner = writable_owner(pairs)
        file = await only_file(form, services.settings)

        async def work(ids: Sequence[Ids]) -> Reply:
            await store_one(file, ids[0], put_original(services))
            accepted = await announce_upload(services, file, ids[0], owner)
            return Reply(201, {"image_id": str(accepted.row.image_id), "status": "success"}, {})

        reply = await once(services, request, owner, fingerprint_of(pairs, [file]), [Ids.mint()], work)
    return await respond(request, services, reply)


@router.post(
    "/images",
    **described(
        (202, "Accepted; the variants follow.", ImageDocument | ImagesDocument),
        (200, "Every image is settled: after `Prefer: wait`.", ImageDocument | ImagesDocument),
        problems=(*FILE_PROBLEMS, *INGEST_PROBLEMS, "none_accepted"),
        body=FILES_FORM | INCOMING,
        parameters=[*OWNER_PARAMETERS, KEY_HEADER, PREFER_HEADER],
    ),
)
async def upload_images(request: Request, services: ServicesDep) -> JSONResponse:
    """Upload one or many images, with an owner or without: one file answers with its document, many with a list.

    In a list, one bad file does not spoil the others: it has a problem document in its place. A JSON body takes in an
    object that was put with a temporary key.
    """
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    reply = await (_ingest if kind == "application/json" else _upload_files)(request, services)
    return await respond(request, services, reply)


async def _upload_files(request: Request, services: Services) -> Reply:
    async with received_form(request, services, files=services.settings.max_files_per_request) as form:
        pairs = pairs_of(request, form.fields)
        owner = writable_owner(pairs)
        files = await checked(form, services.settings)
        if len(files) == 1 and isinstance(files[0], Problem):
            raise files[0]

        async def work(ids: Sequence[Ids]) -> Reply:
            results = await upload_batch(services, files, ids, owner)
            return many_reply(services, results) if len(files) > 1 else single_reply(services, results[0])

        return await once(services, request, owner, fingerprint_of(pairs, files), [Ids.mint() for _ in files], work)


async def _ingest(request: Request, services: Services) -> Reply:
    with services.admission.admit() as reservation:
        body = await json_object(request, services.settings)
        owner = writable_owner(pairs_of(request, scalar_fields(body)))
        if owner is None:
            raise Problem("invalid_owner", "name the owner whose temporary key put the object")
        reservation.grow(services.settings.max_upload_bytes)
        return await ingest(services, check_key(body.get("incoming"), owner), owner)
