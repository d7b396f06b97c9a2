"""Serves the interactive documentation of the API. The page loads nothing from other hosts."""

from importlib.resources import files
from pathlib import Path

from fastapi import APIRouter
from fastapi.openapi.docs import get_swagger_ui_html
from starlette.responses import FileResponse, HTMLResponse

from gateway.http.problems import Problem

router = APIRouter(include_in_schema=False)

# This package contains the files of Swagger UI and nothing else.
FOLDER = Path(str(files("fastapi_swagger.resources")))
ASSETS = {
    "swagger-ui-bundle.js": "text/javascript",
    "swagger-ui.css": "text/css",
    "favicon-32x32.png": "image/png",
}
HEADERS = {
    # The page has an inline script. Swagger UI sets inline styles and shows images from data and blob URLs.
    "Content-Security-Policy": "default-src 'none'; script-src 'self' 'unsafe-inline'; style-src 'self' 'unsafe-inline'"
    "; img-src 'self' data: blob:; font-src 'self' data:; connect-src 'self'",
}


@router.get("/docs")
@router.head("/docs")
async def docs() -> HTMLResponse:
    """The page. Its links are relative, so that it also works under a path prefix of a proxy."""
    page = get_swagger_ui_html(
        openapi_url="openapi.json",
        title="imagepipe",
        swagger_js_url="docs/swagger-ui-bundle.js",
        swagger_css_url="docs/swagger-ui.css",
        swagger_favicon_url="docs/favicon-32x32.png",
        # By default Swagger UI sends the OpenAPI document to a validator on the Internet.
        swagger_ui_parameters={"validatorUrl": None},
    )
    page.headers.update(HEADERS)
    return page


@router.get("/docs/{name}")
@router.head("/docs/{name}")
async def asset(name: str) -> FileResponse:
    """A file of the page."""
    if name not in ASSETS:
        raise Problem("no_such_page", "the documentation has no such file")
    return FileResponse(FOLDER / name, media_type=ASSETS[name], headers={"Cache-Control": "public, max-age=86400"})
