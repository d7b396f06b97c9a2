"""From request to form: admission, pace, limits and owner of everything that brings files."""

from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from typing import Any

import structlog
from fastapi import Request

from gateway.http.owner_query import owner_from_pairs
from gateway.http.problems import Problem
from gateway.receiving.body import CLOSE, Pace, chunks, linger, read_all
from gateway.receiving.checking import CheckedFile, FileLimits, check_file
from gateway.receiving.multipart import FILE_FIELD, Form, FormLimits, boundary_of, read_form
from gateway.services.container import Services
from shared.contract.keys import RESERVED_OWNER_TYPE, Owner
from shared.contract.untrusted_json import read_json
from shared.settings import Settings

MAX_JSON_BYTES = 16 * 1024


@asynccontextmanager
async def received_form(request: Request, services: Services, *, files: int) -> AsyncIterator[Form]:
    """The request's form, with at least one file; its slot and memory are held until the context ends.

    Raises Problem. One that comes before the body has been read closes the connection behind its answer.
    """
    settings = services.settings
    limits = FormLimits(settings.max_upload_bytes, files)
    content_type = request.headers.get("content-type")
    with services.admission.admit() as reservation:
        try:
            boundary_of(content_type)
            body = chunks(request, limit=limits.body_bytes, pace=pace_of(settings))
            form = await read_form(body, content_type, limits, reservation)
        except Problem as problem:
            problem.headers |= CLOSE
            await linger(request)
            raise
        if not form.files:
            raise Problem("no_file", f"send the file in the multipart field {FILE_FIELD!r}")
        yield form


def pace_of(settings: Settings) -> Pace:
    """How slow a sender may be."""
    return Pace(settings.upload_idle_timeout.total_seconds(), settings.upload_min_rate)


def file_limits(settings: Settings) -> FileLimits:
    """What a file may be."""
    return FileLimits(settings.max_upload_bytes, settings.max_pixels, settings.max_side)


async def checked(form: Form, settings: Settings) -> list[CheckedFile | Problem]:
    """Every file of a form, checked: what is acceptable, and the problem of what is not, in order."""
    results: list[CheckedFile | Problem] = []
    for file in form.files:
        try:
            results.append(await check_file(file, file_limits(settings)))
        except Problem as problem:
            problem.extra.setdefault("file_name", file.name)
            results.append(problem)
    return results


async def all_files(form: Form, settings: Settings) -> list[CheckedFile]:
    """Every file of a form, all of them acceptable. Raises the Problem of the first that is not."""
    files = await checked(form, settings)
    for file in files:
        if isinstance(file, Problem):
            raise file
    return [file for file in files if isinstance(file, CheckedFile)]


async def only_file(form: Form, settings: Settings) -> CheckedFile:
    """The one file of a form that takes one. Raises its Problem."""
    return await check_file(form.files[0], file_limits(settings))


def pairs_of(request: Request, fields: Iterable[tuple[str, str]] = ()) -> list[tuple[str, str]]:
    """Query parameters and form fields: an owner may be named in either."""
    return [*request.query_params.multi_items(), *fields]


def writable_owner(pairs: Iterable[tuple[str, str]]) -> Owner | None:
    """The owner that a write names. Raises Problem `invalid_owner`, and `reserved_owner` for the type `image`."""
    owner = owner_from_pairs(pairs)
    if owner is None:
        return None
    if owner.type == RESERVED_OWNER_TYPE:
        raise Problem("reserved_owner", f"the owner type {RESERVED_OWNER_TYPE!r} is reserved")
    structlog.contextvars.bind_contextvars(owner=owner.key)
    return owner


async def json_object(request: Request, settings: Settings) -> dict[str, Any]:
    """A small JSON object as body. Raises Problem."""
    try:
        body = await read_all(request, limit=MAX_JSON_BYTES, pace=pace_of(settings))
    except Problem as problem:
        problem.headers |= CLOSE
        await linger(request)
        raise
    try:
        value = read_json(body)
    except ValueError:
        raise Problem("bad_request", "the body is not valid JSON") from None
    if not isinstance(value, dict):
        raise Problem("bad_request", "the body is not a JSON object")
    return value


def scalar_fields(body: dict[str, Any]) -> list[tuple[str, str]]:
    """A JSON object's strings and whole numbers, as form fields would be: `{"user_id": 1}` selects as `user_id=1`."""
    scalars = {name: value for name, value in body.items() if isinstance(value, str | int)}
    return [(name, str(value)) for name, value in scalars.items() if not isinstance(value, bool)]
