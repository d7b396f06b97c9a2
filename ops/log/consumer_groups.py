"""Reads the positions of consumer groups and computes their lag: the records that are not committed yet."""

import asyncio
from collections import defaultdict
from typing import TypedDict

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient

from shared.kafka.producer import client_options
from shared.settings import Settings

TIMEOUT = 5.0


class Lag(TypedDict):
    """One group's lag on one topic, in records over all partitions."""

    group: str
    topic: str
    lag: int


async def consumer_lag(settings: Settings) -> list[Lag]:
    """Lag of every group with a committed position. Raises KafkaError or TimeoutError if Kafka is unavailable."""
    async with asyncio.timeout(TIMEOUT):
        committed = await committed_offsets(settings)
        ends = await _ends(settings, {partition for offsets in committed.values() for partition in offsets})
    rows: list[Lag] = []
    for group, offsets in sorted(committed.items()):
        topics: dict[str, int] = defaultdict(int)
        for partition, offset in offsets.items():
            topics[partition.topic] += max(0, ends[partition] - offset)
        rows += [Lag(group=group, topic=topic, lag=lag) for topic, lag in sorted(topics.items())]
    return rows


async def committed_offsets(settings: Settings) -> dict[str, dict[TopicPartition, int]]:
    """Maps each group to its committed position in each partition. Raises KafkaError if Kafka is unavailable."""
    admin = AIOKafkaAdminClient(**client_options(settings), request_timeout_ms=int(TIMEOUT * 1000))
    try:
        await admin.start()
        found = {}
        for group, *_ in await admin.list_consumer_groups():
            offsets = await admin.list_consumer_group_offsets(group)
            found[group] = {partition: entry.offset for partition, entry in offsets.items() if entry.offset >= 0}
        return found
    finally:
        await admin.close()


async def _ends(settings: Settings, partitions: set[TopicPartition]) -> dict[TopicPartition, int]:
    if not partitions:
        return {}
    consumer = AIOKafkaConsumer(**client_options(settings))
    try:
        await consumer.start()
        return dict(await consumer.end_offsets(list(partitions)))
    finally:
        await consumer.stop()
