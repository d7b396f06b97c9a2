"""The gateway's life: the public port, the internal port, and the connections to the engines."""

import asyncio
import socket
from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import structlog
import uvicorn

from gateway.app import create_app
from gateway.container import Services
from gateway.reading.lists import GAP_MEMORY
from gateway.services.claims import CassandraClaimTable, Claims
from gateway.services.credentials import StsKeyIssuer
from shared.cassandra.index import CassandraIndex
from shared.kafka.producer import Producer
from shared.kafka.writers import KafkaCommandLog
from shared.observability.health import InternalServer
from shared.observability.metrics import Service
from shared.s3.store import S3Store
from shared.settings import Settings, Topic

log = structlog.get_logger()

SOURCE = "imagepipe/gateway"
RECONNECT_SECONDS = 1.0
"""Between two tries to reach an engine at start-up; afterwards the drivers reconnect themselves."""

CONNECT_FIRST_SECONDS = 5.0
"""The public port opens once the engines are connected, so that a restart answers no request with 503 for that; or
after this time, because a gateway serves what it can while an engine is away."""


class _Server(uvicorn.Server):
    """A server that leaves signals alone: uvicorn's own handling ends the process before connections are closed."""

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Handle no signals here."""
        yield

    def end(self, _stopping: object = None) -> None:
        """Take no more requests, and let those under way end."""
        self.should_exit = True

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Listen. Raises OSError where that is not possible."""
        try:
            await super().startup(sockets)
        except SystemExit as error:
            # uvicorn logs the reason and ends the process by itself, before anything is closed.
            raise OSError(f"cannot listen on {self.config.host}:{self.config.port}") from error
        log.info("service_started", port=self.config.port)


class Gateway:
    """The engines' adapters and the servers of one process.

    It starts whatever is away: readiness says what, and requests that need it are answered 503 until it is there.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._producer = Producer(settings)
        self._store = S3Store.from_settings(settings)
        self._index = CassandraIndex(gap_memory=GAP_MEMORY)
        self._keys = StsKeyIssuer.from_settings(settings) if settings.credentials_enabled else None
        self._services = Services(
            settings,
            self._store,
            self._index,
            KafkaCommandLog(self._producer, settings, SOURCE),
            Claims(CassandraClaimTable(self._index), settings.idempotency_lease),
            self._keys,
        )

    async def run(self, stop: asyncio.Event) -> None:
        """Serve until `stop` is set, then let the requests under way end. Raises OSError where a port is taken."""
        internal = InternalServer(
            Service.GATEWAY,
            self._settings.gateway_internal_port,
            self._checks(),
            lambda: None,
            host=self._settings.internal_host,
        )
        await internal.start()
        connecting = asyncio.gather(self._connect_index(), self._connect_log())
        stopping = asyncio.create_task(stop.wait())
        try:
            first: list[asyncio.Future[Any]] = [connecting, stopping]
            await asyncio.wait(first, timeout=CONNECT_FIRST_SECONDS, return_when=asyncio.FIRST_COMPLETED)
            if not stop.is_set():
                await self._serve(stopping)
        finally:
            connecting.cancel()
            stopping.cancel()
            await asyncio.gather(connecting, stopping, return_exceptions=True)
            await internal.stop()
            await self._close()

    async def _serve(self, stopping: asyncio.Task[Any]) -> None:
        config = uvicorn.Config(
            create_app(self._services),
            host=self._settings.gateway_host,
            port=self._settings.gateway_port,
            # Logging is configured already; requests are logged by the app, with what uvicorn does not know.
            log_config=None,
            access_log=False,
            server_header=False,
            timeout_graceful_shutdown=int(self._settings.gateway_drain_timeout.total_seconds()),
        )
        server = _Server(config)
        stopping.add_done_callback(server.end)
        await server.serve()

    def _checks(self) -> Mapping[str, Callable[[], Awaitable[None]]]:
        return {"kafka": self._check_topics, "s3": self._store.check, "cassandra": self._index.check}

    async def _check_topics(self) -> None:
        await self._producer.check(self._settings.topic(topic) for topic in (Topic.COMMANDS, Topic.EVENTS))

    async def _connect_index(self) -> None:
        while True:
            try:
                await self._index.connect(self._settings)
                return
            except Exception as error:
                # Whatever it is: who stops trying serves for ever without an index.
                log.warning("cassandra_not_connected", error=f"{type(error).__name__}: {error}")
                await asyncio.sleep(RECONNECT_SECONDS)

    async def _connect_log(self) -> None:
        """Connect before the first upload does; the producer connects again by itself whenever it must."""
        try:
            await self._producer.start()
        except Exception as error:
            log.warning("kafka_not_connected", error=f"{type(error).__name__}: {error}")

    async def _close(self) -> None:
        await self._producer.close()
        await self._index.close()
        await self._store.close()
        if self._keys is not None:
            await self._keys.close()


async def serve(settings: Settings, stop: asyncio.Event) -> None:
    """Serve until `stop` is set. Raises OSError (a port is taken), ConfigurationError."""
    await Gateway(settings).run(stop)
