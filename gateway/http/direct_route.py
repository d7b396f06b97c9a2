"""Routes for calls that are so short that the framework's handling would be most of their time."""

from collections import defaultdict
from collections.abc import Iterable
from re import Match

from fastapi.routing import APIRoute
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute
from starlette.types import ASGIApp, Receive, Scope, Send

from gateway.http.errors import error_response


class DirectRoute(APIRoute):
    """A route that `DirectRoutes` serves. FastAPI describes it, and responds to methods that its path lacks.

    The handler is called with the request, the services of the app and the parameters of the path, as text. It can have
    no other parameters, no dependencies and no body, and it returns a response.
    """


class DirectRoutes:
    """ASGI middleware that serves the direct routes among these routes, and passes on all other requests.

    The framework would resolve the arguments of a handler anew for each request, within exit stacks that nothing uses,
    and would call each message of the response through three functions that watch for errors. Here the error of a
    handler becomes a problem document. One that ends a body that is sent already ends the connection.
    """

    def __init__(self, app: ASGIApp, routes: Iterable[BaseRoute], services: object, base_url: str) -> None:
        self._app = app
        self._services = services
        self._base_url = base_url
        self._routes: defaultdict[str, list[DirectRoute]] = defaultdict(list)
        for route in routes:
            if isinstance(route, DirectRoute):
                for method in route.methods or ():
                    self._routes[method].append(route)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one ASGI connection."""
        for route in self._routes.get(scope.get("method", ""), ()):
            if matched := route.path_regex.match(scope["path"]):
                response = await self._respond(route, matched, Request(scope, receive))
                await response(scope, receive, send)
                return
        await self._app(scope, receive, send)

    async def _respond(self, route: DirectRoute, matched: Match[str], request: Request) -> Response:
        request.scope.update(route=route, path_params=(parameters := matched.groupdict()))
        try:
            response: Response = await route.endpoint(request=request, services=self._services, **parameters)
        except Exception as error:
            return error_response(error, self._base_url)
        return response
