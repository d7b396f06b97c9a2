"""ASGI middleware that refuses request targets which the framework would read differently than the client means."""

from urllib.parse import unquote_to_bytes

from starlette.types import ASGIApp, Receive, Scope, Send

from gateway.http.errors import error_response
from gateway.http.problems import Problem


class TargetCheck:
    """The middleware. It sends a problem document and does not call the app if the target is not acceptable."""

    def __init__(self, app: ASGIApp, base_url: str) -> None:
        self._app = app
        self._base_url = base_url

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one ASGI connection."""
        problem = target_problem(scope["path"], scope["query_string"]) if scope["type"] == "http" else None
        if problem is None:
            await self._app(scope, receive, send)
        else:
            await error_response(problem, self._base_url)(scope, receive, send)


def target_problem(path: str, query: bytes) -> Problem | None:
    """The problem of a decoded path and a raw query, if they have one.

    - The patterns of routes end with `$`, which also matches before a line feed at the end. `/media/x%0A` would be a
      second URL of `/media/x`, which a purge of a CDN would not reach.
    - The framework decodes the query with replacement characters. The owners `%FF` and `%FE` would be the same owner.
    """
    if path.endswith("\n"):
        return Problem("no_such_page", "there is nothing under this path")
    try:
        if not query.isascii():
            raise ValueError
        if b"%" in query:
            unquote_to_bytes(query).decode()
    except ValueError:
        return Problem("bad_request", "the query must be percent-encoded UTF-8")
    return None
