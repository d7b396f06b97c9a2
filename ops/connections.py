"""Runs a command in an event loop, and opens connections to the engines that are closed at its end."""

import asyncio
import os
import signal
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
    """Run the coroutine of a command. Raises ImagepipeError.

    Ctrl-C cancels it; it then prints a message and exits with 130. A second Ctrl-C ends the process at once.
    """
    # If the services run on the same machine, they have priority: clients wait for them.
    os.setpriority(os.PRIO_PROCESS, 0, max(NICENESS, os.getpriority(os.PRIO_PROCESS, 0)))
    try:
        return asyncio.run(_until_interrupted(work))
    except KafkaError as error:
        raise Unavailable("kafka", repr(error)) from error
    except (KeyboardInterrupt, asyncio.CancelledError):
        typer.echo("Interrupted. Run the command again to continue: finished work is kept.", err=True)
        raise typer.Exit(INTERRUPTED) from None


async def _until_interrupted(work: Coroutine[Any, Any, T]) -> T:
    """Run a coroutine, which SIGINT cancels. A process that ignores SIGINT, as a shell's background job does, goes on.

    `asyncio.run` has a handler of its own, but no descriptor that wakes the event loop: a signal that arrives just
    before the loop waits for its sockets has no effect until one of them has data.
    """
    task = asyncio.current_task()
    assert task is not None

    def interrupt() -> None:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        task.cancel()

    if signal.getsignal(signal.SIGINT) is not signal.SIG_IGN:
        asyncio.get_running_loop().add_signal_handler(signal.SIGINT, interrupt)
    return await work


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
