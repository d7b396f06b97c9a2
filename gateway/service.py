"""Runs the gateway: its public port, its internal port, and its connections to the engines."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

import structlog

from gateway.app import create_app
from gateway.container import Services
from gateway.events.reader import Reader
from gateway.http.server import connections_for, make_server, raise_descriptor_limit
from gateway.reading.lists import GAP_MEMORY
from gateway.services.claims import CassandraClaimTable, Claims
from gateway.services.credentials import StsKeyIssuer
from gateway.services.set_leases import CassandraLeaseTable, SetLeases
from gateway.services.succession import Successions
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
"""Pause between two tries to connect to Cassandra. Once connected, the driver reconnects by itself."""

CONNECT_FIRST_SECONDS = 5.0
"""The public port opens when the engines are connected, or after this time. The wait spares clients a 503 at each
restart. It has an end, because a gateway can serve some requests while an engine is unavailable."""


async def connect_index(index: CassandraIndex, settings: Settings, pause: float = RECONNECT_SECONDS) -> None:
    """Connect to Cassandra. After any error, wait for `pause` seconds and try again."""
    while True:
        try:
            await index.connect(settings)
            return
        except Exception as error:
            # Also after an unexpected error: without further tries the gateway would stay without an index.
            log.warning("cassandra_not_connected", error=f"{type(error).__name__}: {error}")
            await asyncio.sleep(pause)


class Gateway:
    """The connections and the servers of one process.

    It starts even if an engine is unavailable: readiness reports the engine, and a request that needs it is 503.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._producer = Producer(settings)
        self._store = S3Store.from_settings(settings)
        self._index = CassandraIndex(gap_memory=GAP_MEMORY)
        self._keys = StsKeyIssuer.from_settings(settings) if settings.credentials_enabled else None
        claim_table = CassandraClaimTable(self._index)
        self._services = Services(
            settings,
            self._store,
            self._index,
            KafkaCommandLog(self._producer, settings, SOURCE),
            Claims(claim_table, settings.idempotency_lease),
            Successions(claim_table, settings.idempotency_lease),
            SetLeases(CassandraLeaseTable(self._index, settings.cassandra_keyspace), settings.set_lease),
            self._keys,
        )

    async def run(self, stop: asyncio.Event) -> None:
        """Serve until `stop` is set, then finish the requests in progress. Raises OSError if a port is in use."""
        internal = InternalServer(
            Service.GATEWAY,
            self._settings.gateway_internal_port,
            self._checks(),
            lambda: None,
            host=self._settings.internal_host,
            checked=self._services.availability.note,
        )
        await internal.start()
        connecting = asyncio.gather(connect_index(self._index, self._settings), self._connect_log())
        reader = Reader(self._settings, self._services.listeners, self._services.answers.arrived)
        reading = asyncio.gather(reader.run(), self._services.indexed.run())
        stopping = asyncio.create_task(stop.wait())
        try:
            first: list[asyncio.Future[Any]] = [connecting, stopping]
            await asyncio.wait(first, timeout=CONNECT_FIRST_SECONDS, return_when=asyncio.FIRST_COMPLETED)
            if not stop.is_set():
                await self._serve(stopping)
        finally:
            tasks: list[asyncio.Future[Any]] = [connecting, reading, stopping]
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            await internal.stop()
            await self._close()

    async def _serve(self, stopping: asyncio.Task[Any]) -> None:
        server = make_server(create_app(self._services), self._settings, connections_for(raise_descriptor_limit()))
        stopping.add_done_callback(server.end)
        # A stream has no end of its own, so the server would wait for it.
        stopping.add_done_callback(lambda _stopping: self._services.listeners.close())
        await server.serve()

    def _checks(self) -> Mapping[str, Callable[[], Awaitable[None]]]:
        return {"kafka": self._check_topics, "s3": self._store.check, "cassandra": self._index.check}

    async def _check_topics(self) -> None:
        await self._producer.check(self._settings.topic(topic) for topic in (Topic.COMMANDS, Topic.EVENTS))

    async def _connect_log(self) -> None:
        """Connect before the first upload needs it. After a failure the producer connects by itself when it is used."""
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
    """Serve until `stop` is set. Raises OSError (a port is in use), ConfigurationError."""
    await Gateway(settings).run(stop)
