"""Builds the gateway's ASGI app: its routes, error responses, OpenAPI document and access log."""

from importlib.metadata import version

from fastapi import FastAPI
from starlette.types import ASGIApp, Receive, Scope, Send

from gateway.container import Services
from gateway.http import errors, openapi
from gateway.http.access_log import AccessLog
from gateway.http.direct_route import DirectRoutes
from gateway.http.target import TargetCheck
from gateway.routes import (
    contract,
    credentials,
    deletions,
    docs,
    events,
    media,
    page,
    problems,
    reads,
    replacements,
    status,
    uploads,
)

ROUTERS = (
    uploads.router,
    replacements.router,
    deletions.router,
    reads.router,
    reads.bytes_router,
    media.router,
    credentials.router,
    problems.router,
    contract.router,
    events.router,
    status.router,
    docs.router,
)


class GatewayApp(FastAPI):
    """The app. Requests pass `front` before they reach the framework, and those to direct routes end there."""

    front: ASGIApp

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one ASGI connection."""
        await self.front(scope, receive, send)


def create_app(services: Services) -> GatewayApp:
    """The app over these services."""
    app = GatewayApp(
        version=version("imagepipe"),
        redirect_slashes=False,
        # The framework's documentation pages load scripts from another host.
        docs_url=None,
        redoc_url=None,
        # The framework's spans would duplicate those of AccessLog.
        telemetry={"tracing": False, "metrics": False, "logs": False},
    )
    app.state.services = services
    routers = (*ROUTERS, page.router) if services.settings.page_enabled else ROUTERS
    routes = [route for router in routers for route in router.routes]
    # `include_router` would keep the routers, and match each request in every router and then again in the one found.
    app.router.routes.extend(routes)
    errors.install(app, routes, services.base_url)
    openapi.install(app, routes)
    framework = super(GatewayApp, app).__call__
    direct = DirectRoutes(framework, routes=routes, services=services, base_url=services.base_url)
    app.front = AccessLog(TargetCheck(direct, base_url=services.base_url))
    return app
