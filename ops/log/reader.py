"""Reads a topic from given offsets to its end. It joins no consumer group, so it does not affect the services."""

import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import nullcontext
from datetime import datetime
from typing import Any, Self

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import KafkaError

from ops.terminal.output import Output
from shared.consuming.record import ConsumedRecord
from shared.errors import ConfigurationError, Unavailable
from shared.kafka.producer import client_options
from shared.kafka.record_batches import accept_any_header_name
from shared.security import explain_kafka
from shared.settings import Settings, Topic

Offsets = Mapping[int, int]
"""Maps partitions to offsets."""

BATCH = 2000
"""Maximum number of records in memory."""
FETCH_WAIT_MS = 50
"""Time that a broker waits for new records at the end of a partition. The next request on the connection waits for it:
with the client's default of 500 ms, reading a small log took seconds."""
STALLED_AFTER = 60.0
"""Seconds without a record before the end of the topic, after which Kafka counts as unavailable."""


class TopicReader:
    """A reader of one topic. Use it as an async context manager. The methods raise Unavailable."""

    def __init__(self, settings: Settings, topic: Topic) -> None:
        self.topic = settings.topic(topic)
        self._logical = topic
        self._settings = settings
        accept_any_header_name()
        self._consumer = AIOKafkaConsumer(
            **client_options(settings), group_id=None, enable_auto_commit=False, auto_offset_reset="earliest",
            max_partition_fetch_bytes=4 * 1024 * 1024, fetch_max_wait_ms=FETCH_WAIT_MS,
        )  # fmt: skip

    async def __aenter__(self) -> Self:
        try:
            await self._consumer.start()
            found = await self._look_up()
        except KafkaError as error:
            await self._consumer.stop()
            raise Unavailable("kafka", f"{error!r}; {await explain_kafka(self._settings)}") from error
        except BaseException:
            await self._consumer.stop()
            raise
        self._partitions = [TopicPartition(self.topic, number) for number in sorted(found)]
        return self

    async def __aexit__(self, *_error: object) -> None:
        await self._consumer.stop()

    async def _look_up(self) -> set[int]:
        if self.topic not in await self._consumer.topics():
            raise ConfigurationError(f"topic {self.topic} does not exist: run `imagepipe topics apply`")
        # aiokafka knows the partitions only of topics that it reads. A request for an offset waits until it knows them.
        first = TopicPartition(self.topic, 0)
        self._consumer.assign([first])
        await self._consumer.beginning_offsets([first])
        found: set[int] = self._consumer.partitions_for_topic(self.topic)
        return found

    async def beginnings(self) -> dict[int, int]:
        """First existing offset of each partition."""
        return _by_partition(await self._consumer.beginning_offsets(self._partitions))

    async def ends(self) -> dict[int, int]:
        """Offset of the next record of each partition."""
        return _by_partition(await self._consumer.end_offsets(self._partitions))

    async def at(self, when: datetime) -> dict[int, int]:
        """Offset of each partition's first record at or after this time. It is the end if there is no such record."""
        # aiokafka refuses a time before 1970, and a record without a time counts as one of 1970.
        milliseconds = max(0, int(when.timestamp() * 1000))
        found = await self._consumer.offsets_for_times(dict.fromkeys(self._partitions, milliseconds))
        ends = await self.ends()
        return {tp.partition: answer.offset if answer else ends[tp.partition] for tp, answer in found.items()}

    async def read(self, start: Offsets, end: Offsets | None = None) -> AsyncIterator[Sequence[ConsumedRecord]]:
        """Batches of records from `start` up to `end`, exclusive. Without `end` the iteration never stops.

        The records of one partition are in order. Only the partitions in `start` are read.
        """
        wanted = [tp for tp in self._partitions if tp.partition in start]
        if end is not None:
            wanted = [tp for tp in wanted if start[tp.partition] < end[tp.partition]]
        if not wanted:
            return
        self._consumer.assign(wanted)
        for tp in wanted:
            self._consumer.seek(tp, start[tp.partition])
        progressed = time.monotonic()
        while wanted:
            fetched = await self._consumer.getmany(*wanted, timeout_ms=500, max_records=BATCH)
            batch = [
                ConsumedRecord.from_aiokafka(self._logical, record)
                for records in fetched.values()
                for record in records
                if end is None or record.offset < end[record.partition]
            ]
            if batch:
                progressed = time.monotonic()
                yield batch
            elif end is not None and time.monotonic() - progressed > STALLED_AFTER:
                raise Unavailable("kafka", f"no record of {self.topic} for {STALLED_AFTER:.0f} s before its end")
            if end is not None:
                # Compaction leaves gaps, so the position shows that a partition is done, and not the last record.
                wanted = [tp for tp in wanted if await self._consumer.position(tp) < end[tp.partition]]


def _by_partition(offsets: Mapping[Any, int]) -> dict[int, int]:
    return {tp.partition: offset for tp, offset in offsets.items()}


async def read_through(
    reader: TopicReader,
    start: Offsets,
    end: Offsets,
    take: Callable[[Sequence[ConsumedRecord]], None],
    output: Output | None = None,
) -> None:
    """Pass each batch from `start` up to `end` to `take`, and show progress on the `output`. Raises Unavailable."""
    title, total = f"Read {reader.topic}", span(start, end)
    with output.progress(title, total) if output and total else nullcontext(_ignore) as advance:
        async for batch in reader.read(start, end):
            take(batch)
            advance(len(batch))


async def read_topic(
    settings: Settings,
    topic: Topic,
    take: Callable[[Sequence[ConsumedRecord]], None],
    output: Output | None = None,
    *,
    start: Offsets | datetime | None = None,
    end: Offsets | None = None,
) -> Offsets:
    """Read a topic from `start` (default: its beginning) to `end` (default: its present end); see `read_through`.

    Returns the end; a later call can continue from there. Raises Unavailable, and ConfigurationError if the topic does
    not exist.
    """
    async with TopicReader(settings, topic) as reader:
        if start is None:
            start = await reader.beginnings()
        elif isinstance(start, datetime):
            start = await reader.at(start)
        end = end or await reader.ends()
        await read_through(reader, start, end, take, output)
        return end


async def topic_ends(settings: Settings, topic: Topic) -> Offsets:
    """Offset of the next record of each partition. Raises Unavailable, and ConfigurationError if there is no topic."""
    async with TopicReader(settings, topic) as reader:
        return await reader.ends()


def _ignore(_count: int = 1) -> None:
    return None


def span(start: Offsets, end: Offsets) -> int:
    """Number of offsets between the two. After compaction there are fewer records than offsets."""
    return sum(max(0, end[partition] - offset) for partition, offset in start.items())
