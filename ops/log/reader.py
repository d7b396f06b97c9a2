"""Reads a topic from given offsets to its end with assigned partitions: no group, so live consumers never notice."""

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
from shared.security import explain_kafka
from shared.settings import Settings, Topic

Offsets = Mapping[int, int]
"""Partition to offset."""

BATCH = 2000
"""Records that are held at a time."""
FETCH_WAIT_MS = 50
"""How long a broker waits for records at a partition's end. Whatever is asked of it next waits behind that: with the
client's 500 a look at a small log took seconds of it."""
STALLED_AFTER = 60.0
"""Seconds without a record before the end, after which the brokers count as away."""


class TopicReader:
    """A reader of one topic; use it as an async context manager. Methods raise Unavailable."""

    def __init__(self, settings: Settings, topic: Topic) -> None:
        self.topic = settings.topic(topic)
        self._logical = topic
        self._settings = settings
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
        # aiokafka knows the partitions of topics that it reads only; asking for an offset waits until it knows them.
        first = TopicPartition(self.topic, 0)
        self._consumer.assign([first])
        await self._consumer.beginning_offsets([first])
        found: set[int] = self._consumer.partitions_for_topic(self.topic)
        return found

    async def beginnings(self) -> dict[int, int]:
        """First offset that each partition still has."""
        return _by_partition(await self._consumer.beginning_offsets(self._partitions))

    async def ends(self) -> dict[int, int]:
        """Offset that each partition's next record will get."""
        return _by_partition(await self._consumer.end_offsets(self._partitions))

    async def at(self, when: datetime) -> dict[int, int]:
        """Offset of each partition's first record at or after this time; its end where there is none."""
        milliseconds = int(when.timestamp() * 1000)
        found = await self._consumer.offsets_for_times(dict.fromkeys(self._partitions, milliseconds))
        ends = await self.ends()
        return {tp.partition: answer.offset if answer else ends[tp.partition] for tp, answer in found.items()}

    async def read(self, start: Offsets, end: Offsets | None = None) -> AsyncIterator[Sequence[ConsumedRecord]]:
        """Batches of records from `start` up to (not including) `end`; without an end, for ever.

        Order holds within a partition only. Partitions that `start` does not name are not read.
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
                raise Unavailable("kafka", f"{self.topic} gave no record for {STALLED_AFTER:.0f} s before its end")
            if end is not None:
                # The position, not the last record, says that a partition is done: compaction leaves gaps.
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
    """Read a topic from `start` (by default its beginning) to `end` (by default its end now), as `read_through`.

    Returns the end, from which a later call goes on. Raises Unavailable, and ConfigurationError without the topic.
    """
    async with TopicReader(settings, topic) as reader:
        if start is None:
            start = await reader.beginnings()
        elif isinstance(start, datetime):
            start = await reader.at(start)
        end = end or await reader.ends()
        await read_through(reader, start, end, take, output)
        return end


def _ignore(_count: int = 1) -> None:
    return None


def span(start: Offsets, end: Offsets) -> int:
    """How many offsets lie between the two: records, or more than there are after compaction."""
    return sum(max(0, end[partition] - offset) for partition, offset in start.items())
