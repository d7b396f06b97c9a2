"""The interactive description of the API, all of it from here: a reader's browser asks no other host."""

from importlib.resources import files
from pathlib import Path

from fastapi import APIRouter
from fastapi.openapi.docs import get_swagger_ui_html
from starlette.responses import FileResponse, HTMLResponse

from gateway.http.problems import Problem

router = APIRouter(include_in_schema=False)

# Swagger UI as its makers build it, in a package that does nothing but carry it.
FOLDER = Path(str(files("fastapi_swagger.resources")))
ASSETS = {
    "swagger-ui-bundle.js": "text/javascript",
    "swagger-ui.css": "text/css",
    "favicon-32x32.png": "image/png",
}
HEADERS = {
    # The page starts the script by a line of its own; the script writes styles and shows pictures that it holds itself.
    "Content-Security-Policy": "default-src 'none'; script-src 'self' 'unsafe-inline'; style-src 'self' 'unsafe-inline'"
    "; img-src 'self' data: blob:; font-src 'self' data:; connect-src 'self'",
}


@router.get("/docs")
async def docs() -> HTMLResponse:
    """The page. Its links are relative, so that it works below any path of a proxy."""
    page = get_swagger_ui_html(
        openapi_url="openapi.json",
        title="imagepipe",
        swagger_js_url="docs/swagger-ui-bundle.js",
        swagger_css_url="docs/swagger-ui.css",
        swagger_favicon_url="docs/favicon-32x32.png",
        # Unset, the script sends the description to a validator on the Internet.
        swagger_ui_parameters={"validatorUrl": None},
    )
    page.headers.update(HEADERS)
    return page


@router.get("/docs/{name}")
async def asset(name: str) -> FileResponse:
    """One of the page's files."""
    if name not in ASSETS:
        raise Problem("no_such_page", "there is no such file")
    return FileResponse(FOLDER / name, media_type=ASSETS[name], headers={"Cache-Control": "public, max-age=86400"})
