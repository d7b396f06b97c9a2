"""A route for calls that are so short that FastAPI's own handling would be most of their time."""

from typing import Any

from fastapi.routing import APIRoute
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import request_response


class DirectRoute(APIRoute):
    """Calls its handler with the request, the services of the app and the parameters of the path, as text.

    FastAPI would resolve the same arguments anew for each request, within two exit stacks that nothing uses. The
    OpenAPI document still comes from the signature of the handler. The handler can have no other parameters, no
    dependencies and no body, and it returns a response.
    """

    def __init__(self, path: str, endpoint: Any, **options: Any) -> None:
        super().__init__(path, endpoint, **options)

        async def handle(request: Request) -> Response:
            response: Response = await endpoint(
                request=request, services=request.app.state.services, **request.path_params
            )
            return response

        self.app = request_response(handle)
