"""Serves the contract of the topics: JSON Schemas, the AsyncAPI document, and a page that explains both."""

from functools import cache
from typing import Annotated

from fastapi import APIRouter, Path
from starlette.responses import HTMLResponse, Response

from gateway.container import ServicesDep
from gateway.http.events_page import page
from gateway.http.openapi import problem_responses
from gateway.http.problems import Problem
from shared.contract.json_schema import COMMANDS, EVENTS, file_name, published, record_schema, schema_id

router = APIRouter(tags=["events"])

SCHEMA_JSON = "application/schema+json"
CACHED = {"Cache-Control": "public, max-age=3600"}
PAGE_HEADERS = CACHED | {"Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'; sandbox"}
FILES = {file_name(name): name for name in (*EVENTS, *COMMANDS)}

SchemaFile = Annotated[str, Path(examples=["image.ready.v1.json"])]


def _json(content: bytes, media_type: str = "application/json") -> Response:
    return Response(content, media_type=media_type, headers=CACHED)


@cache
def _schema_file(name: str) -> bytes:
    return published(record_schema(name))


@router.get("/schemas/", summary="List the JSON Schemas of commands and events")
@router.head("/schemas/", include_in_schema=False)
async def schemas(services: ServicesDep) -> Response:
    """The `$id` and the URL of each schema. The header `ce_dataschema` of a record is the `$id` of its schema."""
    listed = [
        {"type": name, "id": schema_id(name), "url": f"{services.base_url}/schemas/{file}"}
        for file, name in FILES.items()
    ]
    return _json(published({"schemas": listed}))


@router.get(
    "/schemas/{name}",
    summary="Get the JSON Schema of a record's value",
    responses={200: {"content": {SCHEMA_JSON: {}}}, **problem_responses("no_such_page")},
)
@router.head("/schemas/{name}", include_in_schema=False)
async def schema(name: SchemaFile) -> Response:
    """The schema of one type of record in one schema version."""
    if name not in FILES:
        raise Problem("no_such_page", "there is no such schema; /schemas/ lists all")
    return _json(_schema_file(FILES[name]), SCHEMA_JSON)


@router.get("/asyncapi.json", summary="Get the AsyncAPI document")
@router.head("/asyncapi.json", include_in_schema=False)
async def document(services: ServicesDep) -> Response:
    """The topics of this deployment, the records in them, their keys and headers."""
    return _json(published(services.asyncapi))


@router.get("/events/docs", include_in_schema=False)
@router.head("/events/docs", include_in_schema=False)
async def events_page(services: ServicesDep) -> HTMLResponse:
    """The AsyncAPI document for people. The page loads nothing."""
    return HTMLResponse(page(services.asyncapi), headers=PAGE_HEADERS)
