"""How a command runs: one event loop, and connections to the engines that are closed at its end."""

import asyncio
import os
from collections.abc import AsyncIterator, Coroutine
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any, TypeVar

import typer
from aiokafka.errors import KafkaError

from shared.cassandra.index import CassandraIndex
from shared.errors import Unavailable
from shared.kafka.producer import Producer
from shared.s3.store import S3Store
from shared.settings import Settings

T = TypeVar("T")
NICENESS = 10
INTERRUPTED = 130
"""Exit code after Ctrl-C, as shells have it."""


def run(work: Coroutine[Any, Any, T]) -> T:
    """Run a command's coroutine to its end. Raises ImagepipeError; Ctrl-C becomes a remark and exit code 130."""
    # Where the services share the machine, their clients wait for them, and nobody but the operator for us.
    os.setpriority(os.PRIO_PROCESS, 0, max(NICENESS, os.getpriority(os.PRIO_PROCESS, 0)))
    try:
        return asyncio.run(work)
    except KafkaError as error:
        raise Unavailable("kafka", repr(error)) from error
    except KeyboardInterrupt:
        typer.echo("Interrupted. Every command may be run again: what is done stays done.", err=True)
        raise typer.Exit(INTERRUPTED) from None


@asynccontextmanager
async def producer(settings: Settings) -> AsyncIterator[Producer]:
    """A connected producer, closed at the end. Raises Unavailable."""
    made = Producer(settings)
    await made.start()
    try:
        yield made
    finally:
        await made.close()


@asynccontextmanager
async def store(settings: Settings) -> AsyncIterator[S3Store]:
    """The bucket, checked, closed at the end. Raises Unavailable."""
    made = S3Store.from_settings(settings)
    async with AsyncExitStack() as stack:
        stack.push_async_callback(made.close)
        await made.check()
        yield made


@asynccontextmanager
async def index(settings: Settings, keyspace: str | None = None) -> AsyncIterator[CassandraIndex]:
    """The live index or that of one keyspace, connected, closed at the end. Raises Unavailable, ConfigurationError."""
    made = await CassandraIndex.open(settings, keyspace)
    try:
        yield made
    finally:
        await made.close()
