"""Makes the replies to uploads and replacements, and holds them back for `Prefer: wait`."""

from collections.abc import Sequence
from typing import Any

import structlog
from fastapi import Request
from starlette.responses import JSONResponse

from gateway.http.cache_control import NO_STORE
from gateway.http.problems import Problem
from gateway.services.claims import Reply
from gateway.services.waiting import Waiting, wait_of
from gateway.writing.uploads import Accepted
from shared.read_model.documents import document


def single_reply(result: Accepted | Problem, base_url: str) -> Reply:
    """202 with the status document; `Location` is its URL. Raises the result if it is a Problem."""
    if isinstance(result, Problem):
        raise result
    body = document(result.row, base_url)
    return Reply(202, body, {"Location": f"{base_url}/images/{body['image_id']}/metadata"})


def many_reply(results: Sequence[Accepted | Problem], base_url: str) -> Reply:
    """202 with a status document or a problem document for each file, in order.

    Raises Problem if no file was accepted, or if a file failed because an engine is unavailable. The client has to
    repeat the latter request. With the same Idempotency-Key the files that were accepted are not uploaded twice.
    """
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


async def respond(request: Request, reply: Reply, waiting: Waiting) -> JSONResponse:
    """The reply as a response, after the wait that the client prefers: 200 if all images are settled, else 202.

    The wait may be long. Callers have left the scope of their files before, so that the memory of these is free.
    """
    headers = NO_STORE | reply.headers
    body, status = reply.body, reply.status
    images = _images(body)
    structlog.contextvars.bind_contextvars(image_id=" ".join(image["image_id"] for image in images))
    seconds = wait_of(request.headers.getlist("prefer"), waiting.longest)
    if status == 202 and seconds and (documents := await waiting.settled(images, seconds)) is not None:
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
