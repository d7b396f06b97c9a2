"""Figures of the index and the log: a rebuild, the indexer on a backlog, and a replay of finished commands."""

import asyncio
import itertools
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from aiokafka import AIOKafkaConsumer, TopicPartition

from bench.deployment import deployment, settled_records
from bench.figures import Aim, Figure, Rounds
from bench.floors.driver import BareDriver
from bench.records import answer, fill_log, logged, upload
from ops.index.rebuild import Rebuild
from ops.log.reader import TopicReader
from ops.replaying.finished import unfinished
from ops.replaying.replayer import Replayed, Scope, scan
from ops.terminal.output import Output
from shared.cassandra.column_groups import Texts
from shared.cassandra.cql import statement_of
from shared.cassandra.index import BULK_REQUESTS_AT_ONCE, CassandraIndex
from shared.cassandra.schema import apply_schema
from shared.cassandra.session import connected
from shared.contract.keys import IMAGES_PREFIX
from shared.kafka.producer import client_options
from shared.observability.metrics import Service
from shared.read_model.tables import IMAGES, event_writes
from shared.s3.store import S3Store, s3_client
from shared.settings import Settings, Topic
from tests.support import synthetic
from tests.support.engines.stack import Stack
from tests.support.processes.service import ServiceProcess

LOGGED_IMAGES = 3_000
"""Images in the log of a rebuild, each with a command and an answer. The indexer needs seconds for them."""
FLOOR_ROWS = 5_000
FLOOR_AT_ONCE = 64
"""Rows that the driver writes at once, as many as the records of one indexer."""
REPLAYED_IMAGES = 1_000
SAMPLE_SECONDS = 0.05
STARTED = 0.05
"""Fraction of the records after which the rate of the indexer is measured: the first ones wait for its connections."""
READ_TIMEOUT_MS = 50


class Silent(Output):
    """The output of a command, without its messages."""

    def say(self, text: str) -> None:
        """Print nothing."""


async def measure(stack: Stack, rounds: Rounds) -> None:
    """Measure all figures of the index."""
    with deployment(stack) as running:
        await fill_log(running.settings, LOGGED_IMAGES)
        await measure_writes(running.settings, rounds)
    with deployment(stack) as running:
        await measure_replay(running.settings, rounds)


async def measure_writes(settings: Settings, rounds: Rounds) -> None:
    """A rebuild and the indexer, each into an empty keyspace, against rows that the driver alone writes."""
    names = (f"{settings.cassandra_keyspace}_{number}" for number in itertools.count())

    async def driver_alone() -> float:
        return await write_rows(await fresh_keyspace(settings, next(names)))

    async def rebuild() -> float:
        return await rebuild_rate(await fresh_keyspace(settings, next(names)))

    async def indexer() -> float:
        return await indexer_rate(await fresh_keyspace(settings, next(names)))

    rows, rebuilt, indexed = await rounds.in_turn(driver_alone, rebuild, indexer, warm_up=False)
    floor = "driver alone, rows"
    rounds.report(Figure("rebuild", "records/s", floor, rebuilt, rows, Aim("at least", 3_000, "value")))
    rounds.report(Figure("indexer", "records/s", floor, indexed, rows, Aim("at least", 1_500, "value")))


async def fresh_keyspace(settings: Settings, name: str) -> Settings:
    """The settings with an empty keyspace. It is dropped with those of the deployment."""
    fresh = settings.model_copy(update={"cassandra_keyspace": name})
    await asyncio.to_thread(apply_schema, fresh)
    return fresh


async def write_rows(settings: Settings) -> float:
    """Rows per second of ready images that the driver alone writes to one table."""
    statements = []
    for number in range(FLOOR_ROWS):
        event = answer(logged(upload(number, settings), number, settings), settings)
        # Of the writes to the row of an image the last one has the variants, which are most of the row.
        *_, write = (each for each in event_writes(event, settings.day_shards) if each.table == IMAGES)
        statements.append(statement_of(write, Texts()))
    with connected(settings, settings.cassandra_keyspace) as session:
        return await BareDriver(session).writes(statements[0][0], [values for _, values in statements], FLOOR_AT_ONCE)


async def rebuild_rate(settings: Settings) -> float:
    """Records per second of `imagepipe reindex`, which folds the log and writes each row once."""
    target = await CassandraIndex.open(settings, settings.cassandra_keyspace, requests_at_once=BULK_REQUESTS_AT_ONCE)
    store = S3Store.from_settings(settings)
    try:
        rebuild = Rebuild(settings, target, store, Silent())
        started = time.perf_counter()
        await rebuild.from_log(1)
        seconds = time.perf_counter() - started
    finally:
        await target.close()
        await store.close()
    assert rebuild.done.records == 2 * LOGGED_IMAGES
    return rebuild.done.records / seconds


async def indexer_rate(settings: Settings) -> float:
    """Records per second of an indexer that starts without positions."""
    await forget_positions(settings)
    with started_indexer(settings) as indexer:
        return await drain_rate(indexer, 2 * LOGGED_IMAGES)


async def forget_positions(settings: Settings) -> None:
    """Set the positions of the indexer's group to the beginning of the log. No indexer may run."""
    consumer = AIOKafkaConsumer(**client_options(settings), group_id=settings.indexer_group, enable_auto_commit=False)
    await consumer.start()
    try:
        partitions = partitions_of(settings, Topic.COMMANDS, Topic.EVENTS)
        consumer.assign(partitions)
        await consumer.commit(dict.fromkeys(partitions, 0))
    finally:
        await consumer.stop()


def partitions_of(settings: Settings, *topics: Topic) -> list[TopicPartition]:
    """All partitions of these topics."""
    return [
        TopicPartition(settings.topic(topic), number) for topic in topics for number in range(settings.topic_partitions)
    ]


@contextmanager
def started_indexer(settings: Settings) -> Iterator[ServiceProcess]:
    """An indexer that may still be starting; it ends with the block."""
    with tempfile.TemporaryDirectory() as directory:
        indexer = ServiceProcess(Service.INDEXER, settings, Path(directory) / "indexer.log")
        indexer.start()
        try:
            yield indexer
        finally:
            indexer.end()


async def drain_rate(indexer: ServiceProcess, records: int) -> float:
    """Records per second from the first sample above STARTED to the one that has all records."""
    first: tuple[float, int] | None = None
    while True:
        now, settled = time.perf_counter(), await asyncio.to_thread(settled_records, indexer)
        indexer.check_running()
        if first is None and settled > STARTED * records:
            first = now, settled
        if first is not None and settled >= records:
            began, before = first
            return (settled - before) / (now - began)
        await asyncio.sleep(SAMPLE_SECONDS)


async def measure_replay(settings: Settings, rounds: Rounds) -> None:
    """A replay that finds that all commands are finished, against reading the same log and bucket."""
    async with synthetic.deployment(settings) as world:
        await world.many(REPLAYED_IMAGES)

        async def replay() -> float:
            return REPLAYED_IMAGES / await replay_seconds(settings, world.store)

        async def read() -> float:
            return REPLAYED_IMAGES / await read_seconds(settings)

        floors, values = await rounds.in_turn(read, replay)
    floor = "reading log and listing bucket"
    rounds.report(
        Figure("replay of finished commands", "commands/s", floor, values, floors, Aim("at least", 2_000, "value"))
    )


async def replay_seconds(settings: Settings, store: S3Store) -> float:
    """Seconds of `imagepipe replay` from the beginning. Nothing is left to do."""
    started, done = time.perf_counter(), Replayed()
    async with TopicReader(settings, Topic.COMMANDS) as reader:
        start, end = await reader.beginnings(), await reader.ends()
        asked = await scan(reader, start, end, Scope(), settings.epoch, done, Silent())
        assert len(asked) == REPLAYED_IMAGES
        assert not await unfinished(settings, store, asked, Silent())
    return time.perf_counter() - started


async def read_seconds(settings: Settings) -> float:
    """Seconds to read all bytes of both topics, and to list the bucket with boto3."""
    started = time.perf_counter()
    await read_log(settings)
    await asyncio.to_thread(list_bucket, settings)
    return time.perf_counter() - started


async def read_log(settings: Settings) -> None:
    """Read both topics to their ends, without parsing a record."""
    consumer = AIOKafkaConsumer(**client_options(settings), group_id=None, fetch_max_wait_ms=READ_TIMEOUT_MS)
    await consumer.start()
    try:
        partitions = partitions_of(settings, Topic.COMMANDS, Topic.EVENTS)
        consumer.assign(partitions)
        await consumer.seek_to_beginning(*partitions)
        left = sum((await consumer.end_offsets(partitions)).values())
        while left > 0:
            left -= sum(map(len, (await consumer.getmany(timeout_ms=1000)).values()))
    finally:
        await consumer.stop()


def list_bucket(settings: Settings) -> None:
    """List all objects of images."""
    client = s3_client(settings)
    try:
        pages = client.get_paginator("list_objects_v2").paginate(Bucket=settings.s3_bucket, Prefix=IMAGES_PREFIX)
        assert sum(len(page["Contents"]) for page in pages) > REPLAYED_IMAGES
    finally:
        client.close()
