"""The parts of the OpenAPI document that FastAPI does not derive: forms, headers, problems and examples."""

from collections import defaultdict
from collections.abc import Sequence
from typing import Annotated, Any
from uuid import UUID

from fastapi import FastAPI, Path
from fastapi.openapi.utils import get_openapi
from starlette.routing import BaseRoute

from gateway.http.problems import PROBLEM_JSON, PROBLEM_TYPES
from gateway.http.schemas import EXAMPLE, ProblemDocument
from shared.contract.keys import Owner, incoming_prefix

DESCRIPTION = """\
Upload images and get each image as WebP in four sizes.

The gateway responds to an upload as soon as the original is stored and the command is in the log. The variants are
ready some seconds later. To select an owner, send `owner_type` with `owner_id`, or the shorthand `<type>_id=<id>` such
as `user_id=1`, in the query or in the form. Errors are RFC 9457 problem documents. The `type` of each is the URL of a
page that explains the problem.
"""

FILE_PROBLEMS = (
    "bad_request", "invalid_owner", "malformed_form", "no_file", "too_many_files", "reserved_owner", "too_slow",
    "in_flight", "file_too_large", "body_too_large", "not_multipart", "unsupported_format", "empty", "truncated",
    "corrupt", "too_many_pixels", "too_wide", "key_reused", "saturated",
)  # fmt: skip
INGEST_PROBLEMS = ("incoming_mismatch", "no_such_incoming", "incoming_changed")
ENGINE_PROBLEMS = ("unavailable", "unknown_outcome", "internal")

_FILE = {"type": "string", "format": "binary", "description": "PNG, JPEG or WebP."}
_OWNER_TYPE: dict[str, Any] = {"type": "string", "pattern": "^[a-z][a-z0-9_]{0,31}$"}
_OWNER_ID: dict[str, Any] = {"type": "string", "minLength": 1, "maxLength": 128}
_OWNER_FIELDS: dict[str, dict[str, Any]] = {"owner_type": _OWNER_TYPE, "owner_id": _OWNER_ID}
_USER = Owner(type="user", id="1")
"""The owner in the examples. A request names its owner once, so only one parameter has it as its example."""


def _form(schema: dict[str, Any], *, owner: bool = True) -> dict[str, Any]:
    """The request body of a multipart form whose field `image` has this schema."""
    properties = {"image": schema} | (_OWNER_FIELDS if owner else {})
    return {"multipart/form-data": {"schema": {"type": "object", "required": ["image"], "properties": properties}}}


FILE_FORM = _form(_FILE)
FILE_FORM_WITHOUT_OWNER = _form(_FILE, owner=False)
FILES_FORM = _form({"type": "array", "items": _FILE, "minItems": 1})
INCOMING = {
    "application/json": {
        "schema": {
            "type": "object",
            "required": ["incoming"],
            "properties": {"incoming": {"type": "string", "description": "Key of the object."}, **_OWNER_FIELDS},
        },
        "example": {"incoming": f"{incoming_prefix(_USER)}dune.jpg"},
    }
}


def _header(name: str, description: str, schema: dict[str, Any]) -> dict[str, Any]:
    return {"name": name, "in": "header", "required": False, "description": description, "schema": schema}


def query_parameter(name: str, description: str, schema: dict[str, Any]) -> dict[str, Any]:
    """An optional query parameter."""
    return {"name": name, "in": "query", "required": False, "description": description, "schema": schema}


BYTES_RESPONSES: dict[int | str, dict[str, Any]] = {
    200: {"description": "The whole file.", "content": {"image/*": {}}},
    206: {"description": "The range that the client asked for.", "content": {"image/*": {}}},
    304: {"description": "The client's copy is current."},
}
BYTES_PROBLEMS = ("precondition_failed", "range_not_satisfiable")

KEY_HEADER = _header(
    "Idempotency-Key",
    "A unique value for each request. If you repeat the request with it within a day, the request takes effect once.",
    {"type": "string", "minLength": 1, "maxLength": 255, "pattern": "^[!-~]([ -~]*[!-~])?$"},
)
PREFER_HEADER = _header(
    "Prefer",
    "`wait=N`: the response comes when the variants are ready, or after N seconds. Other preferences are ignored.",
    {"type": "string"},
)
IF_MATCH_HEADER = _header(
    "If-Match",
    "The `version` of the image, in quotes, or the ETag of its status document. For one image only. If the image has "
    "another version, the request is refused with 412.",
    {"type": "string"},
)
OWNER_PARAMETERS = [
    query_parameter("owner_type", "Type of the owner. Needs `owner_id`.", _OWNER_TYPE),
    query_parameter("owner_id", "Id of the owner, any text. Needs `owner_type`.", _OWNER_ID),
    query_parameter(
        "user_id", "Shorthand for the owner type `user`; any `<type>_id` works.", _OWNER_ID | {"example": _USER.id}
    ),
]
URL_PARAMETER = query_parameter("url", "URL of an original, with any host.", {"type": "string"})
MIN_DURATION = 900
"""Seconds. The object stores accept no shorter lifetime of a temporary key (AWS and SeaweedFS)."""
DURATION_PARAMETER = query_parameter(
    "duration",
    "Lifetime of the keys in seconds.",
    {"type": "integer", "minimum": MIN_DURATION, "example": MIN_DURATION},
)
ImageId = Annotated[UUID, Path(examples=[EXAMPLE["image_id"]])]
"""The id of an image in the path."""
ImageIdText = Annotated[str, Path(examples=[EXAMPLE["image_id"]])]
"""The same as text, for routes that read it themselves."""
MediaPathText = Annotated[str, Path(examples=[EXAMPLE["original"]["path"]])]
ProblemCode = Annotated[str, Path(examples=["not_found"])]


def described(
    *successes: tuple[int, str, Any],
    problems: tuple[str, ...] = (),
    body: dict[str, Any] | None = None,
    parameters: list[dict[str, Any]] | None = None,
) -> dict[str, Any]:
    """Arguments of a route: its successes (status, description, model), its problems, its body and its parameters."""
    responses: dict[int | str, dict[str, Any]] = {
        status: {"description": text} | ({"model": model} if model else {}) for status, text, model in successes
    }
    extra: dict[str, Any] = {"parameters": parameters} if parameters else {}
    if body:
        extra["requestBody"] = {"required": True, "content": body}
    return {
        "status_code": successes[0][0],
        "responses": responses | problem_responses(*problems),
        "openapi_extra": extra,
        # The models describe the responses; the framework must not build the responses from them.
        "response_model": None,
    }


def problem_responses(*codes: str) -> dict[int | str, dict[str, Any]]:
    """The `responses` of a route that may have these problems, by status."""
    by_status: dict[int, list[str]] = defaultdict(list)
    for code in (*codes, *ENGINE_PROBLEMS):
        by_status[PROBLEM_TYPES[code].status].append(code)
    return {status: _problem_response(found) for status, found in sorted(by_status.items())}


def _problem_response(codes: list[str]) -> dict[str, Any]:
    examples = {
        code: {
            "value": {
                "type": f"https://images.example.org/problems/{code}",
                "title": PROBLEM_TYPES[code].title,
                "status": PROBLEM_TYPES[code].status,
                "detail": PROBLEM_TYPES[code].explanation,
                "code": code,
            }
        }
        for code in codes
    }
    content = {PROBLEM_JSON: {"schema": {"$ref": "#/components/schemas/ProblemDocument"}, "examples": examples}}
    return {"description": "; ".join(PROBLEM_TYPES[code].title for code in codes), "content": content}


def install(app: FastAPI, routes: Sequence[BaseRoute]) -> None:
    """Make the app serve FastAPI's OpenAPI document of these routes, with the corrections of this module."""

    def openapi() -> dict[str, Any]:
        if app.openapi_schema is None:
            app.openapi_schema = _corrected(
                get_openapi(title="imagepipe", version=app.version, description=DESCRIPTION, routes=routes)
            )
        return app.openapi_schema

    app.openapi = openapi  # type: ignore[method-assign]


def _corrected(schema: dict[str, Any]) -> dict[str, Any]:
    """Replace FastAPI's validation errors by problem documents, and add the schemas of problems and examples."""
    schemas = schema.setdefault("components", {}).setdefault("schemas", {})
    for path in schema["paths"].values():
        for operation in path.values():
            found = operation["responses"].get("422", {}).get("content", {}).get("application/json", {})
            if "HTTPValidationError" in str(found):
                del operation["responses"]["422"]
    for name in ("HTTPValidationError", "ValidationError"):
        schemas.pop(name, None)
    schemas["ProblemDocument"] = ProblemDocument.model_json_schema(ref_template="#/components/schemas/{model}")
    if "ImageDocument" in schemas:
        schemas["ImageDocument"]["example"] = EXAMPLE
    return schema
