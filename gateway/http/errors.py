"""Turns every exception of a route into a problem document (RFC 9457)."""

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
from gateway.http.cache_control import NO_STORE
from gateway.http.problems import PROBLEM_JSON, Problem, unavailable
from shared.errors import Unavailable

log = structlog.get_logger()


def problem_of(error: Exception) -> Problem:
    """The problem that an exception stands for; `internal` for an unexpected one, which is logged."""
    match error:
        case Problem():
            return error
        case Unavailable():
            return unavailable(error)
        case RequestValidationError():
            return _invalid(error)
        case HTTPException():
            code = "no_such_page" if error.status_code == 404 else "bad_request"
            return Problem(code, str(error.detail), headers=error.headers)
    log.error("unexpected_error", exc_info=error)
    return Problem("internal", "an unexpected error occurred")


def _invalid(error: RequestValidationError) -> Problem:
    first: Mapping[str, Any] = error.errors()[0]
    where, *names = first["loc"]
    if where == "path":
        return Problem("not_found", "there is no such image")
    return Problem("bad_request", f"{'.'.join(map(str, names)) or where}: {first['msg']}")


def error_response(error: Exception, base_url: str) -> Response:
    """The response to a request whose handler raised this exception."""
    if isinstance(error, ClientDisconnect):
        return Response(status_code=CLIENT_CLOSED)
    problem = problem_of(error)
    headers = NO_STORE | problem.headers
    return JSONResponse(problem.document(base_url), problem.status, headers, media_type=PROBLEM_JSON)


def install(app: FastAPI, routes: Sequence[BaseRoute], base_url: str) -> None:
    """Make the app respond to every exception with a problem document. `routes` are the app's own."""

    async def wrong_method(request: Request, error: Exception) -> Response:
        # The framework's own error has only the methods of the first route of the path.
        matches = [route for route in routes if isinstance(route, Route) and route.path_regex.match(request.url.path)]
        methods = ", ".join(sorted({method for route in matches for method in route.methods or ()}))
        problem = Problem("method_not_allowed", f"this path has the methods {methods}", headers={"Allow": methods})
        return error_response(problem, base_url)

    async def handler(request: Request, error: Exception) -> Response:
        return error_response(error, base_url)

    for kind in (Problem, Unavailable, RequestValidationError, HTTPException, ClientDisconnect):
        app.add_exception_handler(kind, handler)
    app.add_exception_handler(405, wrong_method)
    # A handler for Exception would run outside of all middleware, where the response gets no request id.
    app.add_middleware(_UnexpectedErrors, base_url=base_url)


class _UnexpectedErrors:
    """ASGI middleware that responds to an exception for which the app has no handler."""

    def __init__(self, app: ASGIApp, base_url: str) -> None:
        self._app = app
        self._base_url = base_url

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        started = False

        async def watch(message: Message) -> None:
            nonlocal started
            started = True
            await send(message)

        try:
            await self._app(scope, receive, watch)
        except Exception as error:
            # A part of a response cannot be taken back. The server closes the connection instead.
            if started or scope["type"] != "http":
                raise
            await error_response(error, self._base_url)(scope, receive, send)
