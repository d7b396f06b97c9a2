"""Runs a command in an event loop, and opens connections to the engines that are closed at its end."""

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
"""Exit code after Ctrl-C, which shells use too."""


def run(work: Coroutine[Any, Any, T]) -> T:
    """Run the coroutine of a command. Raises ImagepipeError. After Ctrl-C it prints a message and exits with 130."""
    # If the services run on the same machine, they have priority: clients wait for them.
    os.setpriority(os.PRIO_PROCESS, 0, max(NICENESS, os.getpriority(os.PRIO_PROCESS, 0)))
    try:
        return asyncio.run(work)
    except KafkaError as error:
        raise Unavailable("kafka", repr(error)) from error
    except KeyboardInterrupt:
        typer.echo("Interrupted. Run the command again to continue: finished work is kept.", err=True)
        raise typer.Exit(INTERRUPTED) from None


@asynccontextmanager
async def producer(settings: Settings) -> AsyncIterator[Producer]:
    """A connected producer that is closed at the end of the block. Raises Unavailable."""
    made = Producer(settings)
    await made.start()
    try:
        yield made
    finally:
        await made.close()


@asynccontextmanager
async def store(settings: Settings) -> AsyncIterator[S3Store]:
    """The bucket, after a check that it can be listed. It is closed at the end of the block. Raises Unavailable."""
    made = S3Store.from_settings(settings)
    async with AsyncExitStack() as stack:
        stack.push_async_callback(made.close)
        await made.check()
        yield made


@asynccontextmanager
async def index(settings: Settings, keyspace: str | None = None) -> AsyncIterator[CassandraIndex]:
    """The index in the live keyspace, or in the given one. It is closed at the end of the block.

    Raises Unavailable, ConfigurationError.
    """
    made = await CassandraIndex.open(settings, keyspace)
    try:
        yield made
    finally:
        await made.close()
