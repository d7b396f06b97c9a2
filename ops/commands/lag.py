"""`imagepipe lag`: show the lag and throughput of each consumer group, and the age of its oldest waiting record."""

import asyncio
import time
from collections.abc import Mapping
from typing import Annotated, Any

import typer
from aiokafka import TopicPartition

from ops.connections import run
from ops.log.consumer_groups import committed_offsets
from ops.log.reader import TopicReader
from ops.settings import load_settings
from ops.terminal.options import AsJson, DeploymentRoot
from ops.terminal.output import Output
from shared.settings import Settings, Topic


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command()(lag)


def lag(
    root: DeploymentRoot = None,
    as_json: AsJson = False,
    seconds: Annotated[float, typer.Option(min=0.1, help="How many seconds to measure the rate.")] = 2.0,
) -> None:
    """Show each consumer group's lag, throughput and the age of its oldest record that is not settled."""
    rows = run(measure(load_settings(root), seconds))
    Output(as_json).table(["group", "topic", "lag", "records_per_second", "oldest_seconds"], rows)


async def measure(settings: Settings, seconds: float) -> list[dict[str, Any]]:
    """One row for each group and topic of this deployment. Raises Unavailable, KafkaError."""
    before, started = await committed_offsets(settings), time.monotonic()
    await asyncio.sleep(seconds)
    after, elapsed = await committed_offsets(settings), time.monotonic() - started
    rows = []
    for topic in Topic:
        name = settings.topic(topic)
        async with TopicReader(settings, topic) as reader:
            beginnings, ends = await reader.beginnings(), await reader.ends()
            for group in sorted(after):
                # Retention may have deleted records after the position. Then the next record is the first existing one.
                now = {p: max(offset, beginnings[p]) for p, offset in _of_topic(after[group], name).items()}
                if not now:
                    continue
                earlier = _of_topic(before.get(group, {}), name)
                moved = sum(offset - earlier.get(p, offset) for p, offset in now.items())
                waiting = {p: offset for p, offset in now.items() if offset < ends[p]}
                rows.append(
                    {
                        "group": group,
                        "topic": name,
                        "lag": sum(ends[p] - offset for p, offset in waiting.items()),
                        "records_per_second": round(max(0, moved) / elapsed, 1),
                        "oldest_seconds": await _oldest(reader, waiting, ends),
                        "partitions": [
                            {"partition": p, "committed": offset, "end": ends[p]} for p, offset in sorted(now.items())
                        ],
                    }
                )
    return rows


def _of_topic(offsets: Mapping[TopicPartition, int], topic: str) -> dict[int, int]:
    return {place.partition: offset for place, offset in offsets.items() if place.topic == topic}


async def _oldest(reader: TopicReader, waiting: dict[int, int], ends: dict[int, int]) -> float | None:
    """Age in seconds of the oldest record at or after these positions; None if there is none."""
    first: dict[int, int] = {}
    async for batch in reader.read(waiting, ends):
        for record in batch:
            first.setdefault(record.partition, record.timestamp)
        if len(first) == len(waiting):
            break
    return round(time.time() - min(first.values()) / 1000, 1) if first else None
