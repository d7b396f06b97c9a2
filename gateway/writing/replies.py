"""What a client is told about files that were taken in or refused."""

from collections.abc import Sequence
from typing import Any

import structlog
from fastapi import Request
from starlette.responses import JSONResponse

from gateway.http.problems import Problem
from gateway.services.claims import Reply
from gateway.services.container import Services
from gateway.services.waiting import wait_of
from gateway.writing.uploads import Accepted
from shared.read_model.documents import document

NO_STORE = {"Cache-Control": "no-store"}


def single_reply(services: Services, accepted: Accepted | Problem) -> Reply:
    """202 with the status document, and where to look for its progress. Raises the Problem that there is instead."""
    if isinstance(accepted, Problem):
        raise accepted
    base_url = services.settings.public_base_url
    body = document(accepted.row, base_url)
    return Reply(202, body, {"Location": f"{base_url}/images/{body['image_id']}/metadata"})


def many_reply(services: Services, results: Sequence[Accepted | Problem]) -> Reply:
    """202 with a document or problem for each file, in order.

    Raises Problem where no file was accepted, or where a file failed because an engine is away: that request is to be
    repeated, and what was accepted of it is not taken in twice under the same Idempotency-Key.
    """
    base_url = services.settings.public_base_url
    bodies: list[dict[str, Any]] = [
        result.document(base_url) if isinstance(result, Problem) else document(result.row, base_url)
        for result in results
    ]
    problems = [result for result in results if isinstance(result, Problem)]
    for problem in problems:
        if problem.status >= 500:
            raise Problem(problem.code, problem.detail, headers=problem.headers, images=bodies)
    if len(problems) == len(results):
        raise Problem("none_accepted", "no file was accepted", images=bodies)
    return Reply(202, {"images": bodies}, {})


async def respond(request: Request, services: Services, reply: Reply) -> JSONResponse:
    """The reply as a response, after waiting as the client prefers: 200 where all images are settled, else 202.

    That may take long: the caller holds no file meanwhile, because the memory of its files has been given back.
    """
    headers = NO_STORE | reply.headers
    body, status = reply.body, reply.status
    images = _images(body)
    structlog.contextvars.bind_contextvars(image_id=" ".join(image["image_id"] for image in images))
    seconds = wait_of(request.headers.getlist("prefer"), services.settings.max_wait)
    if status == 202 and seconds and (documents := await services.waiting.settled(images, seconds)) is not None:
        body = _with_images(body, documents)
        headers["Preference-Applied"] = f"wait={seconds:g}"
        status = 202 if any(image["status"] == "processing" for image in documents) else 200
    return JSONResponse(body, status, headers)


def _images(body: dict[str, Any]) -> list[dict[str, Any]]:
    return [image for image in body.get("images", [body]) if "image_id" in image]


def _with_images(body: dict[str, Any], documents: list[dict[str, Any]]) -> dict[str, Any]:
    if "images" not in body:
        return documents[0]
    settled = iter(documents)
    return {"images": [next(settled) if "image_id" in image else image for image in body["images"]]}
