"""Errors to answers, in one place: whatever a handler raises becomes an RFC 9457 problem document."""

from collections.abc import Mapping, Sequence
from typing import Any

import structlog
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.responses import JSONResponse, Response
from starlette.routing import BaseRoute, Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from gateway.http.access_log import CLIENT_CLOSED
from gateway.http.problems import Problem, away
from shared.errors import Unavailable

log = structlog.get_logger()

PROBLEM_JSON = "application/problem+json"


def problem_of(error: Exception) -> Problem:
    """The problem that an exception means; `internal` for one that nobody foresaw."""
    match error:
        case Problem():
            return error
        case Unavailable():
            return away(error)
        case RequestValidationError():
            return _invalid(error)
        case HTTPException():
            code = "no_such_page" if error.status_code == 404 else "bad_request"
            return Problem(code, str(error.detail), headers=error.headers)
    return Problem("internal", "An error that was not foreseen.")


def _invalid(error: RequestValidationError) -> Problem:
    first: Mapping[str, Any] = error.errors()[0]
    where, *names = first["loc"]
    if where == "path":
        return Problem("not_found", "there is no such image")
    return Problem("bad_request", f"{'.'.join(map(str, names)) or where}: {first['msg']}")


def answer(request: Request, error: Exception) -> Response:
    """The problem document of an exception, as a response."""
    if isinstance(error, ClientDisconnect):
        return Response(status_code=CLIENT_CLOSED)
    problem = problem_of(error)
    if problem.code == "internal":
        log.error("unforeseen_error", exc_info=error)
    base_url: str = request.app.state.services.settings.public_base_url
    headers = {"Cache-Control": "no-store", **problem.headers}
    return JSONResponse(problem.document(base_url), problem.status, headers, media_type=PROBLEM_JSON)


def install(app: FastAPI, routes: Sequence[BaseRoute]) -> None:
    """Answer every exception of the app's handlers with a problem document. `routes` are the app's own."""

    async def wrong_method(request: Request, error: Exception) -> Response:
        # The framework names the methods of the first route of the path only.
        matches = [route for route in routes if isinstance(route, Route) and route.path_regex.match(request.url.path)]
        methods = sorted({method for route in matches for method in route.methods or ()})
        detail = f"this path takes {', '.join(methods)}"
        return answer(request, Problem("method_not_allowed", detail, headers={"Allow": ", ".join(methods)}))

    async def handler(request: Request, error: Exception) -> Response:
        return answer(request, error)

    for kind in (Problem, Unavailable, RequestValidationError, HTTPException, ClientDisconnect):
        app.add_exception_handler(kind, handler)
    app.add_exception_handler(405, wrong_method)
    # Not a handler for Exception: the framework puts that one outside of all middleware, where no request id is set.
    app.add_middleware(_LastResort)


class _LastResort:
    """ASGI middleware that answers what no handler foresaw."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        started = False

        async def watch(message: Message) -> None:
            nonlocal started
            started = True
            await send(message)

        try:
            await self._app(scope, receive, watch)
        except Exception as error:
            # Half an answer cannot be taken back: the server closes the connection instead.
            if started or scope["type"] != "http":
                raise
            await answer(Request(scope), error)(scope, receive, send)
