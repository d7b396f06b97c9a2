"""The server of the public port: uvicorn with the connections of `gateway.http.connection`."""

import functools
import resource
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import structlog
import uvicorn
from starlette.types import ASGIApp

from gateway.http.connection import Connection, Connections
from shared.settings import Settings

log = structlog.get_logger()

MAX_CONNECTIONS = 16_384
"""Open connections at most. An idle one took 7 to 11 kB, so all of them take less than 200 MB."""
BACKLOG = 512
"""Connections that the kernel holds until the server accepts them. uvloop accepts all of them in one step, before the
server can close one."""
OTHER_DESCRIPTORS = 512
"""Descriptors for the engines, the internal port, files and logs."""


class Server(uvicorn.Server):
    """A server that handles no signals. uvicorn's own handler would end the process before connections are closed."""

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Replaces uvicorn's signal handlers by none."""
        yield

    def end(self, _stopping: object = None) -> None:
        """Accept no more requests; those in progress continue."""
        self.should_exit = True

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Open the port. Raises OSError if that is not possible."""
        try:
            await super().startup(sockets)
        except SystemExit as error:
            # uvicorn logs the reason and raises SystemExit, which would end the process before connections are closed.
            raise OSError(f"cannot listen on {self.config.host}:{self.config.port}") from error
        log.info("service_started", port=self.config.port)


def make_server(app: ASGIApp, settings: Settings, max_connections: int) -> Server:
    """The server of the app on the public port."""
    connections = Connections(max_connections, settings.upload_idle_timeout.total_seconds())
    protocol: Any = functools.partial(Connection, open_connections=connections, base_url=settings.public_base_url)
    config = uvicorn.Config(
        app,
        host=settings.gateway_host,
        port=settings.gateway_port,
        http=protocol,
        ws="none",
        # `Gateway.run` connects and closes the engines, not the app.
        lifespan="off",
        backlog=BACKLOG,
        # The process has configured logging. The app logs requests itself, with fields that uvicorn does not have.
        log_config=None,
        access_log=False,
        server_header=False,
        # The header X-Forwarded-For names the client if the connection comes from one of these networks. An empty list
        # is not None, with which uvicorn would trust 127.0.0.1. The header Forwarded counts nowhere: a proxy that
        # writes one of the two passes the other as the client has sent it.
        forwarded_allow_ips=[str(network) for network in settings.trusted_proxies],
        timeout_graceful_shutdown=int(settings.gateway_drain_timeout.total_seconds()),
    )
    return Server(config)


def connections_for(descriptors: int) -> int:
    """How many connections a process with this limit of descriptors may have."""
    return max(1, min(MAX_CONNECTIONS, max(descriptors // 2, descriptors - BACKLOG - OTHER_DESCRIPTORS)))


def raise_descriptor_limit() -> int:
    """Raise this process's soft limit of open descriptors to the hard limit; returns the soft limit then."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    except (OSError, ValueError):
        # macOS has a hard limit of "unlimited", and accepts no soft limit above its own maximum.
        log.warning("descriptor_limit_not_raised", soft=soft, hard=hard)
        hard = soft
    # "Unlimited" is a negative number.
    return hard if hard >= 0 else MAX_CONNECTIONS * 2
