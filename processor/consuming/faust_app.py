"""The Faust app: one agent that reads raw commands. Faust joins the group and reads; our code commits and retries."""

import logging
import os
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import faust
from faust.transport.consumer import Consumer
from faust.types import TP, StreamT
from mode.supervisors import CrashingSupervisor

from processor.consuming.agent import Agent
from shared.consuming.record import ConsumedRecord
from shared.errors import Unavailable
from shared.kafka.producer import METADATA_MAX_AGE_MS, POLL_INTERVAL
from shared.kafka.record_batches import accept_any_header_name
from shared.observability import metrics
from shared.security import kafka_security
from shared.settings import Settings, Topic

GROUP = "imagepipe-processor"
BUFFERED_RECORDS = 32
"""Records that Faust buffers. Faust drops and reads them again at each rebalance, so its default of 4096 is high."""
REBALANCE_TIMEOUT_SECONDS = 60.0
REVOKE_DRAIN_SECONDS = 20.0
"""Time that running commands have to end at a revoke. Faust sends heartbeats during this time. It must be well below
the rebalance time-out; otherwise the group removes this member."""


def make_app(settings: Settings) -> faust.App:
    """A Faust app without topic creation, tables and web server. Call this function in the running event loop."""
    for noisy in ("faust", "mode"):
        logging.getLogger(noisy).setLevel(max(logging.WARNING, logging.getLogger().level))
    accept_any_header_name()
    session_timeout = settings.kafka_session_timeout.total_seconds()
    return faust.App(
        settings.topic_prefix + GROUP,
        broker=[f"kafka://{server.strip()}" for server in settings.kafka_bootstrap_servers.split(",")],
        broker_credentials=broker_credentials(settings),
        broker_session_timeout=session_timeout,
        broker_heartbeat_interval=session_timeout / 3,
        broker_rebalance_timeout=REBALANCE_TIMEOUT_SECONDS,
        broker_max_poll_interval=POLL_INTERVAL,
        consumer_auto_offset_reset="earliest",
        consumer_metadata_max_age_ms=METADATA_MAX_AGE_MS,
        stream_buffer_maxsize=BUFFERED_RECORDS,
        stream_wait_empty=True,
        topic_allow_declare=False,
        topic_disable_leader=True,
        store="memory://",
        # Faust creates this directory even if there are no tables.
        datadir=Path(tempfile.gettempdir()) / f"imagepipe-faust-{os.getuid()}",
        web_enabled=False,
        autodiscover=False,
    )


def broker_credentials(settings: Settings) -> Any:
    """The login and TLS context of a Faust app; None for PLAINTEXT. Raises ConfigurationError."""
    options = kafka_security(settings)
    context = options["ssl_context"]
    if "sasl_mechanism" in options:
        return faust.SASLCredentials(
            username=options["sasl_plain_username"],
            password=options["sasl_plain_password"],
            mechanism=options["sasl_mechanism"],
            ssl_context=context,
        )
    return faust.SSLCredentials(context=context) if context is not None else None


class CommandStream:
    """Reads the commands topic with one agent of a Faust app, and commits its positions."""

    def __init__(self, app: faust.App, settings: Settings) -> None:
        self._app = app
        self._topic = settings.topic(Topic.COMMANDS)

    def feed(self, agent: Agent) -> None:
        """Pass each record to the agent, in order, and call `agent.revoke` when partitions are revoked."""
        # The records are raw bytes: if Faust decoded them, it would ack and drop a record that it cannot decode.
        # With acks=True Faust would also ack events whose agent raised an error, and events that it skips after a
        # rebalance. `commit` commits the positions instead.
        topic = self._app.topic(
            self._topic, key_type=bytes, value_type=bytes, key_serializer="raw", value_serializer="raw", acks=False
        )

        async def commands(stream: StreamT[bytes]) -> None:
            async for event in stream.events():
                await agent.accept(_consumed(event.message))

        # Several actors would share one queue, and the records would lose their order.
        self._app.agent(topic, name="commands", concurrency=1, supervisor_strategy=CrashingSupervisor)(commands)

        async def revoked(*arguments: Any, **_: Any) -> None:
            if arguments[-1]:
                metrics.REBALANCES.inc()
            await agent.revoke(REVOKE_DRAIN_SECONDS)

        self._app.on_partitions_revoked.connect(revoked)

    async def commit(self, positions: Mapping[int, int]) -> bool:
        """Commit the positions of partitions. Returns False if a rebalance has revoked one of them."""
        offsets = {TP(self._topic, partition): position for partition, position in positions.items()}
        if not offsets.keys() <= self._app.consumer.assignment():
            return False
        consumer = self._app.consumer
        assert isinstance(consumer, Consumer)
        # `_commit` commits explicit offsets. The public `commit` would commit the offsets that Faust has acked.
        return await consumer._commit(offsets)

    async def measure(self, agent: Agent) -> int:
        """Set the gauges; returns the number of records in the assigned partitions that are not committed."""
        assigned = [tp for tp in self._app.consumer.assignment() if tp.topic == self._topic]
        metrics.ASSIGNED_PARTITIONS.set(len(assigned))
        metrics.LAG.clear()
        total = 0
        for tp in assigned:
            end = self._app.consumer.highwater(tp)
            position = agent.restart(tp.partition)
            if position is None:
                position = await self._app.consumer.position(tp)
            lag = max(0, (end or 0) - (position or 0))
            metrics.LAG.labels(Topic.COMMANDS.value, str(tp.partition)).set(lag)
            total += lag
        return total

    @property
    def joined(self) -> bool:
        """Whether this process is a member of the group, with or without partitions, and no rebalance is running."""
        return not self._app.rebalancing and self._app.consumer_generation_id > 0

    async def check_joined(self) -> None:
        """Return if this process is a member of the group. Raises Unavailable otherwise."""
        if not self.joined:
            raise Unavailable("kafka", "the consumer group is not joined yet")


def _consumed(message: Any) -> ConsumedRecord:
    return ConsumedRecord(
        Topic.COMMANDS,
        message.partition,
        message.offset,
        message.key,
        message.value,
        list(message.headers or ()),
        message.timestamp,
    )
