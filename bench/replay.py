"""How fast finished commands are replayed, and that no object is touched.

Run: `python -m bench.replay [--images 5000] [--again-images 500] [--root DIR]`, with keys that may create buckets.
Makes topics, keyspace and bucket of its own and removes them. Two rates: of commands that are skipped because log and
bucket show that they are finished, and of commands that go through the handler once more (`--again`).
"""

import asyncio
import json
import time
from datetime import datetime
from pathlib import Path
from typing import Any

import typer

from bench.stack import require_engines, run
from ops.bucket.listing import pages
from ops.log.reader import TopicReader
from ops.replaying.finished import unfinished
from ops.replaying.replayer import PoolRenderer, Replayed, Scope, handle_again, scan
from ops.settings import load_settings
from ops.terminal.output import Output
from processor.handler import Handler
from shared.contract.keys import IMAGES_PREFIX
from shared.s3.store import S3Store
from shared.settings import Settings, Topic
from tests.support.isolation import isolated
from tests.support.synthetic import deployment


async def replay(
    settings: Settings, store: S3Store, handler: Handler, again: bool, limit: int | None
) -> dict[str, Any]:
    """Replay from the beginning, at most `limit` commands."""
    output, done = Output(True), Replayed()
    started = time.monotonic()
    async with TopicReader(settings, Topic.COMMANDS) as reader:
        start, end = await reader.beginnings(), await reader.ends()
        asked = await scan(reader, start, end, Scope(), settings.epoch, done, output)
        todo = asked[:limit] if again else await unfinished(settings, store, asked, output)
        await handle_again(settings, reader, handler, todo, done, lambda count=1: None)
    seconds, commands = time.monotonic() - started, len(todo) if again else len(asked)
    return {
        "commands": commands, "finished": commands - len(todo), "answers": dict(done.answers),
        "seconds": round(seconds, 1), "commands_per_second": round(commands / seconds),
    }  # fmt: skip


async def objects(store: S3Store) -> dict[str, tuple[str, datetime]]:
    """ETag and time of every object by key."""
    return {info.key: (info.etag, info.modified) async for page in pages(store, IMAGES_PREFIX) for info in page}


async def measure(settings: Settings, images: int, again_images: int) -> dict[str, Any]:
    """Fill, replay, replay again, and compare every object's time and content before and after."""
    async with deployment(settings) as world:
        await world.many(images)
        before = await objects(world.store)
        renderer = PoolRenderer(settings)
        handler = Handler(world.store, renderer, world.events, settings.public_base_url)
        passed_by = await replay(settings, world.store, handler, False, None)
        handled = await replay(settings, world.store, handler, True, again_images)
        await renderer.close()
        after = await objects(world.store)
    return {
        "passed_by": passed_by,
        "handled_again": handled,
        "rendered": renderer.rendered,
        "objects": len(after),
        "objects_touched": sum(before.get(key) != value for key, value in after.items()) + len(before.keys() - after),
    }


def main(images: int = 5_000, again_images: int = 500, root: Path | None = None) -> None:
    """Measure a replay of this many finished commands."""
    admin = load_settings(root)
    require_engines(admin, "kafka", "cassandra", "s3")
    with isolated(admin, topics=True, keyspace=True, bucket=True) as settings:
        print(json.dumps(asyncio.run(measure(settings, images, again_images)), indent=2))


if __name__ == "__main__":
    run(lambda: typer.run(main))
