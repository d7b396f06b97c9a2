"""Writes the cases to a topic of their own in Kafka, lets a consumer read them, and compares its table."""

import asyncio
import json
import os
import secrets
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from itertools import chain, zip_longest
from typing import Any
from uuid import UUID

from aiokafka import AIOKafkaProducer
from aiokafka.admin import AIOKafkaAdminClient, NewTopic

from imagepipe_client.conformance.cases import Case, Image, cases
from imagepipe_client.conformance.judge import differences
from imagepipe_client.errors import ImagepipeError

TOPIC = "images.events"
PARTITIONS = 8
"""As many as a deployment has by default (TOPIC_PARTITIONS)."""
LAST_IMAGES = 1_000_000
"""The numbers of the images of the last records begin here."""
STOP_SECONDS = 10.0

Function = Callable[[str, str], Mapping[str, Any]]
"""Reads the topic to its present end, given the bootstrap servers and the topic prefix; returns the final table."""


class ConsumerFailed(ImagepipeError):  # noqa: N818 - the message says what the consumer did
    """The consumer gave no table."""


@dataclass(frozen=True)
class Report:
    """What the consumer has wrong: one sentence each, none if its table is right."""

    cases: int
    records: int
    differences: tuple[str, ...]


async def check(consumer: Sequence[str] | Function, bootstrap_servers: str, seconds: float = 60.0) -> Report:
    """Feed a consumer, and compare its table. Raises ConsumerFailed if it gives none within `seconds`.

    A command finds KAFKA_BOOTSTRAP_SERVERS and TOPIC_PREFIX in its environment, reads the topic from its beginning, and
    prints its table as one line of JSON whenever it has changed. It is ended by SIGTERM.
    """
    checked = cases()
    last = _last_cases()
    async with _topic(bootstrap_servers) as prefix:
        count = await _publish(bootstrap_servers, prefix + TOPIC, checked, last)
        if callable(consumer):
            table = await asyncio.wait_for(asyncio.to_thread(consumer, bootstrap_servers, prefix), seconds)
        else:
            environment = {"KAFKA_BOOTSTRAP_SERVERS": bootstrap_servers, "TOPIC_PREFIX": prefix}
            table = await _printed_table(consumer, environment, {case.image.id for case in last}, seconds)
    return Report(len(checked), count, tuple(differences([*checked, *last], table)))


def _partition(image: Image) -> int:
    return UUID(image.id).int % PARTITIONS


def _last_cases() -> list[Case]:
    """An image for each partition, whose record is the last one: a table that has it has read the partition."""
    images = [Image(LAST_IMAGES + number) for number in range(PARTITIONS)]
    return [Case("last record", "Read all partitions.", image, (image.ready(2),), image.url(1)) for image in images]


@asynccontextmanager
async def _topic(bootstrap_servers: str) -> AsyncIterator[str]:
    """The prefix of a new topic. All topics with this prefix are deleted at the end, also those of the consumer."""
    prefix = f"conformance-{secrets.token_hex(4)}."
    admin = AIOKafkaAdminClient(bootstrap_servers=bootstrap_servers)
    await admin.start()
    try:
        await admin.create_topics([NewTopic(prefix + TOPIC, num_partitions=PARTITIONS, replication_factor=1)])
        yield prefix
        own = [name for name in await admin.list_topics() if name.startswith(prefix)]
        await admin.delete_topics(own)
    finally:
        await admin.close()


async def _publish(bootstrap_servers: str, topic: str, checked: Sequence[Case], last: Sequence[Case]) -> int:
    """Write the records: those of all images mixed, those of one image in their order. Returns their number."""
    rounds = zip_longest(*([(case.image, record) for record in case.records] for case in checked))
    mixed = [each for each in chain.from_iterable(rounds) if each is not None]
    ending = [(case.image, record) for case in last for record in case.records]
    producer = AIOKafkaProducer(bootstrap_servers=bootstrap_servers, acks="all", enable_idempotence=True)
    async with producer:
        written = [
            await producer.send(
                topic, record.data, key=record.key.encode(), partition=_partition(image), headers=record.headers
            )
            for image, record in (*mixed, *ending)
        ]
        await asyncio.gather(*written)
    return len(mixed) + len(ending)


async def _printed_table(
    command: Sequence[str], environment: Mapping[str, str], last: set[str], seconds: float
) -> Mapping[str, Any]:
    """The last table that the command prints: it ends when the table has all the last images."""
    process = await asyncio.create_subprocess_exec(
        *command, env={**os.environ, **environment}, stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.PIPE
    )
    assert process.stdout is not None
    table: Mapping[str, Any] | None = None
    try:
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                async for line in process.stdout:
                    table = _table(line) or table
                    if table is not None and last <= table.keys():
                        break
    finally:
        with suppress(ProcessLookupError):
            process.terminate()
        await _ended(process)
    if table is None:
        raise ConsumerFailed(f"the consumer printed no table within {seconds:g} s (exit code {process.returncode})")
    return table


def _table(line: bytes) -> Mapping[str, Any] | None:
    """The table of a line, None for any other line that a consumer prints."""
    with suppress(ValueError):
        found = json.loads(line)
        if isinstance(found, dict):
            return found
    return None


async def _ended(process: asyncio.subprocess.Process) -> None:
    """Wait for the process, which may still print; kill it if it does not end."""
    try:
        async with asyncio.timeout(STOP_SECONDS):
            await process.communicate()
    except TimeoutError:
        process.kill()
        await process.wait()
