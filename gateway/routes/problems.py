"""Serves a page for each problem type. Its URL is the `type` in the problem documents."""

from html import escape

from fastapi import APIRouter
from starlette.responses import HTMLResponse

from gateway.http.openapi import ProblemCode, problem_responses
from gateway.http.problems import PROBLEM_TYPES, Problem

router = APIRouter(tags=["problems"])

HEADERS = {
    "Cache-Control": "public, max-age=3600",
    "Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'; sandbox",
}
_PAGE = """<!doctype html><html lang="en"><meta charset="utf-8"><title>{title}</title>
<style>body{{font:1rem/1.5 system-ui,sans-serif;max-width:42rem;margin:3rem auto;padding:0 1rem}}</style>
<h1>{title}</h1>{body}</html>"""


def _page(title: str, body: str) -> HTMLResponse:
    return HTMLResponse(_PAGE.format(title=escape(title), body=body), headers=HEADERS)


@router.get("/problems", response_class=HTMLResponse)
@router.head("/problems", include_in_schema=False)
async def problems() -> HTMLResponse:
    """The list of all problem types."""
    entries = "".join(
        f'<li><a href="problems/{code}">{escape(kind.title)}</a> ({kind.status})</li>'
        for code, kind in PROBLEM_TYPES.items()
    )
    return _page("Problems", f"<ul>{entries}</ul>")


@router.get("/problems/{code}", response_class=HTMLResponse, responses=problem_responses("no_such_page"))
@router.head("/problems/{code}", include_in_schema=False)
async def problem(code: ProblemCode) -> HTMLResponse:
    """The meaning of a problem type, and what the client can do."""
    kind = PROBLEM_TYPES.get(code)
    if kind is None:
        raise Problem("no_such_page", "there is no such problem type")
    text = f"<p>Status {kind.status}, code <code>{escape(code)}</code>.</p><p>{escape(kind.explanation)}</p>"
    return _page(kind.title, text)
