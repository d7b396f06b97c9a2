"""Serves the page at `/` and its files."""

from datetime import timedelta

from fastapi import APIRouter, Request, Response
from werkzeug.http import quote_etag
from werkzeug.sansio.http import is_resource_modified

from gateway.container import ServicesDep
from gateway.http.cache_control import REVALIDATE, cacheable
from gateway.http.problems import Problem
from gateway.web.files import ASSETS, StaticFile, static_files
from gateway.web.policy import content_security_policy

router = APIRouter(include_in_schema=False)

LIFETIME = timedelta(days=365)
"""Of a file in a cache: its URL names its version, so its content never changes."""


@router.get("/")
@router.head("/")
async def page(request: Request, services: ServicesDep) -> Response:
    """The page. It is small, and a new version of the gateway changes it, so each visit asks for it again."""
    headers = REVALIDATE | {
        "Content-Security-Policy": content_security_policy(services.base_url),
        "Referrer-Policy": "same-origin",
    }
    return _respond(request, static_files().index, headers)


@router.get(f"/{ASSETS}{{version}}/{{name}}")
@router.head(f"/{ASSETS}{{version}}/{{name}}")
async def asset(version: str, name: str, request: Request) -> Response:
    """A file of the page.

    While a new version is rolled out, a page of one gateway may ask another one for a file of its own version. It
    gets this gateway's file, and no cache keeps it under that URL.
    """
    found = static_files()
    if name not in found.assets:
        raise Problem("no_such_page", "the page has no such file")
    headers = cacheable(LIFETIME, immutable=True) if version == found.version else REVALIDATE
    return _respond(request, found.assets[name], headers)


def _respond(request: Request, file: StaticFile, headers: dict[str, str]) -> Response:
    """The file, without its body for HEAD, or 304 if the client's copy is current."""
    etag = quote_etag(file.etag)
    headers = {"ETag": etag, "X-Content-Type-Options": "nosniff"} | headers
    if not is_resource_modified(http_if_none_match=request.headers.get("if-none-match"), etag=etag):
        return Response(status_code=304, headers=headers)
    if request.method == "HEAD":
        return Response(headers=headers | {"Content-Type": file.media_type, "Content-Length": str(len(file.content))})
    return Response(file.content, headers=headers, media_type=file.media_type)
