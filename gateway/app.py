"""The gateway as an ASGI app, over whatever services it is given."""

from importlib.metadata import version

from fastapi import FastAPI

from gateway.http import errors as answers
from gateway.http import openapi
from gateway.http.access_log import AccessLog
from gateway.routes import credentials, deletions, docs, media, problems, reads, replacements, uploads
from gateway.services.container import Services

ROUTERS = (
    uploads.router,
    replacements.router,
    deletions.router,
    reads.router,
    media.router,
    credentials.router,
    problems.router,
    docs.router,
)


def create_app(services: Services) -> FastAPI:
    """The app: every route, the error answers, the request log."""
    app = FastAPI(
        version=version("imagepipe"),
        redirect_slashes=False,
        # The framework's own pages load scripts from another host.
        docs_url=None,
        redoc_url=None,
        # Its own spans would stand beside those of AccessLog.
        telemetry={"tracing": False, "metrics": False, "logs": False},
    )
    app.state.services = services
    for router in ROUTERS:
        app.include_router(router)
    answers.install(app, [route for router in ROUTERS for route in router.routes])
    openapi.install(app)
    # Added last, so that it is around everything else.
    app.add_middleware(AccessLog)
    return app
