"""Writes the cases to a topic of their own in Kafka, lets a consumer read them, and compares its table."""

import asyncio
import json
import os
import secrets
import signal
from asyncio.subprocess import Process
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, replace
from functools import partial
from itertools import chain, zip_longest
from typing import Any
from uuid import UUID

from aiokafka import AIOKafkaProducer
from aiokafka.admin import AIOKafkaAdminClient, NewTopic

from imagepipe_client.conformance.cases import Case, Image, Record, cases
from imagepipe_client.conformance.judge import differences
from imagepipe_client.errors import ImagepipeError

TOPIC = "images.events"
PARTITIONS = 8
"""As many as a deployment has by default (TOPIC_PARTITIONS)."""
HALFWAY_IMAGES, LAST_IMAGES = 1_000_000, 2_000_000
"""The numbers of the images of the last records of each half begin here."""
STOP_SECONDS = 10.0

Fed = Sequence[tuple[Image, Record]]
"""Records in the order in which they are written, each with its image."""
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
    prints its table as one line of JSON whenever it has changed. It is killed in the middle and started again; it has
    `seconds` each time, and is ended by SIGTERM. A function is called once, with all records.
    """
    checked = cases()
    halfway, last = (_last_cases(number) for number in (HALFWAY_IMAGES, LAST_IMAGES))
    first = [*_mixed([_first_half(case) for case in checked]), *_mixed(halfway)]
    second, ending = _mixed([_second_half(case) for case in checked]), _mixed(last)
    async with _topic(bootstrap_servers) as prefix, _producer(bootstrap_servers) as producer:
        publish = partial(_publish, producer, prefix + TOPIC)
        await publish(first)
        if callable(consumer):
            await publish([*second, *ending])
            before: Mapping[str, Any] = {}
            table = await asyncio.wait_for(asyncio.to_thread(consumer, bootstrap_servers, prefix), seconds)
        else:
            environment = {"KAFKA_BOOTSTRAP_SERVERS": bootstrap_servers, "TOPIC_PREFIX": prefix}
            async with _running(consumer, environment) as process:
                before = await _printed_table(process, _ids(halfway), seconds)
                await publish(second)
                # It is killed at work: after it has seen some of the second half.
                await _printed_table(process, _ids(halfway), seconds, before)
                _signal(process, signal.SIGKILL)
            # Only now, so that a consumer that goes on from its committed position has something to read and to print.
            await publish(ending)
            async with _running(consumer, environment) as process:
                table = await _printed_table(process, _ids(last), seconds)
    found = differences([*checked, *halfway, *last], table, before)
    return Report(len(checked), len(first) + len(second) + len(ending), tuple(found))


def _partition(image: Image) -> int:
    return UUID(image.id).int % PARTITIONS


def _last_cases(first_number: int) -> list[Case]:
    """An image for each partition, whose record is the last one: a table that has it has read the partition."""
    images = [Image(first_number + number) for number in range(PARTITIONS)]
    return [Case("last record", "Read all partitions.", image, (image.ready(2),), image.url(1)) for image in images]


def _first_half(case: Case) -> Case:
    return replace(case, records=case.records[: (len(case.records) + 1) // 2])


def _second_half(case: Case) -> Case:
    return replace(case, records=case.records[(len(case.records) + 1) // 2 :])


def _ids(cases: Sequence[Case]) -> set[str]:
    return {case.image.id for case in cases}


def _mixed(cases: Sequence[Case]) -> Fed:
    """The records of all images mixed, those of one image in their order."""
    rounds = zip_longest(*([(case.image, record) for record in case.records] for case in cases))
    return [each for each in chain.from_iterable(rounds) if each is not None]


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


def _producer(bootstrap_servers: str) -> AIOKafkaProducer:
    return AIOKafkaProducer(bootstrap_servers=bootstrap_servers, acks="all", enable_idempotence=True)


async def _publish(producer: AIOKafkaProducer, topic: str, records: Fed) -> None:
    """Write the records."""
    written = [
        await producer.send(
            topic, record.data, key=record.key.encode(), partition=_partition(image), headers=record.headers
        )
        for image, record in records
    ]
    await asyncio.gather(*written)


@asynccontextmanager
async def _running(command: Sequence[str], environment: Mapping[str, str]) -> AsyncIterator[Process]:
    """The consumer, which is ended at the end of the block, with the processes that it has started."""
    process = await asyncio.create_subprocess_exec(
        *command, env={**os.environ, **environment}, stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE, start_new_session=True,
    )  # fmt: skip
    try:
        yield process
    finally:
        _signal(process, signal.SIGTERM)
        with suppress(TimeoutError):
            async with asyncio.timeout(STOP_SECONDS):
                # It may still print.
                await process.communicate()
        _signal(process, signal.SIGKILL)
        await process.wait()


def _signal(process: Process, number: signal.Signals) -> None:
    with suppress(ProcessLookupError):
        os.killpg(process.pid, number)


async def _printed_table(
    process: Process, wanted: set[str], seconds: float, known: Mapping[str, Any] | None = None
) -> Mapping[str, Any]:
    """The first table that has all wanted images and is not `known`; the last one after `seconds`, or at its end.

    Raises ConsumerFailed if the consumer prints none.
    """
    assert process.stdout is not None
    table = known
    with suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            async for line in process.stdout:
                table = _table(line) or table
                if table is not None and wanted <= table.keys() and table != known:
                    break
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
