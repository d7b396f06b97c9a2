"""How fast the index is rebuilt: synthetic commands and answers, folded from the topics into a fresh keyspace.

Run: `python -m bench.rebuild [--images 20000] [--root DIR]`, with keys that may create buckets. It makes topics and
keyspaces of its own on the engines that the environment or the local stack names, and removes them. Prints one JSON
document; the live rows that the rebuilt ones are compared with come from applying each record by itself.
"""

import asyncio
import json
import time
from pathlib import Path
from typing import Any

import typer

from bench.stack import require_engines, run
from ops.index.rebuild import Rebuild, compare
from ops.settings import load_settings
from ops.terminal.output import Output
from shared.cassandra.index import CassandraIndex
from shared.cassandra.schema import apply_schema
from shared.concurrency import for_each
from shared.contract.events import Current, Original, Ready, Uploaded, Variant
from shared.contract.keys import Owner, command_version, new_id, original_key, variant_key
from shared.contract.logged_command import LoggedRenderCommand
from shared.kafka.producer import Producer
from shared.kafka.writers import KafkaCommandLog, KafkaEventLog
from shared.read_model.documents import media_url
from shared.read_model.tables import command_writes, event_writes
from shared.s3.store import S3Store
from shared.settings import Settings
from tests.support.isolation import isolated

AT_ONCE = 50
OWNERS = 500


def upload(number: int, settings: Settings) -> Uploaded:
    """A command as the gateway would send it."""
    image_id, revision = new_id(), new_id()
    path = original_key(image_id, revision, "image/jpeg")
    original = Original(
        file_name=f"photo-{number}.jpg", content_type="image/jpeg", size=2_400_000, width=4000, height=3000,
        sha256=f"{number:064x}", path=path, url=media_url(settings.public_base_url, path),
    )  # fmt: skip
    owner = Owner(type="user", id=str(number % OWNERS))
    return Uploaded(image_id=image_id, owner=owner, revision=revision, original=original, ladder=settings.ladder)


def answer(logged: LoggedRenderCommand, settings: Settings) -> Ready:
    """The processor's answer to it."""
    command, render = logged.command, logged.render
    variants = []
    for number, name in enumerate(command.ladder.names):
        path = variant_key(command.image_id, command.revision, render, name)
        variants.append(
            Variant(
                name=name,
                path=path,
                url=media_url(settings.public_base_url, path),
                content_type="image/webp",
                width=4000 >> number,
                height=3000 >> number,
                size=900_000 >> number,
                sha256=f"{logged.version + number:064x}",
            )
        )
    current = Current(
        revision=command.revision, revision_version=logged.revision_version, render=render, original=command.original,
        thumbhash="1QcSHQRnh493V4dIh4eXh1h4kJUI", dominant_color="#7f6f5f", variants=tuple(variants),
    )  # fmt: skip
    return logged.ready(current)


async def fill(settings: Settings, images: int, output: Output) -> float:
    """Write the log, and the live index record by record; returns seconds."""
    producer, live = Producer(settings), await CassandraIndex.open(settings)
    commands = KafkaCommandLog(producer, settings, "imagepipe/bench")
    events = KafkaEventLog(producer, settings, "imagepipe/bench")
    started = time.monotonic()
    try:
        with output.progress("Fill", images) as advance:

            async def one(number: int) -> None:
                command = upload(number, settings)
                appended = await commands.append(command)
                logged = LoggedRenderCommand(command, command_version(settings.epoch, appended.offset or 0))
                event = answer(logged, settings)
                await events.publish(event)
                await live.apply(command_writes(logged, settings.day_shards))
                await live.apply(event_writes(event, settings.day_shards))
                advance()

            await for_each(range(images), one, AT_ONCE)
    finally:
        await producer.close()
        await live.close()
    return time.monotonic() - started


async def measure(settings: Settings, images: int) -> dict[str, Any]:
    """Fill, rebuild, compare."""
    output = Output(True)
    filled = await fill(settings, images, output)
    fresh = f"{settings.cassandra_keyspace}_b"
    await asyncio.to_thread(apply_schema, settings.model_copy(update={"cassandra_keyspace": fresh}))
    target, store = await CassandraIndex.open(settings, fresh), S3Store.from_settings(settings)
    try:
        rebuild = Rebuild(settings, target, store, output)
        started = time.monotonic()
        await rebuild.from_log(1)
        rebuilt = time.monotonic() - started
        started = time.monotonic()
        found = await compare(settings, settings.cassandra_keyspace, fresh, output)
        compared = time.monotonic() - started
    finally:
        await target.close()
        await store.close()
    return {
        "images": rebuild.done.images,
        "records": rebuild.done.records,
        "rebuild_seconds": round(rebuilt, 1),
        "records_per_second": round(rebuild.done.records / rebuilt),
        "images_per_second": round(rebuild.done.images / rebuilt),
        "compare_seconds": round(compared, 1),
        "rows_that_differ": len(found),
        "one_by_one_seconds": round(filled, 1),
    }


def main(images: int = 20_000, root: Path | None = None) -> None:
    """Measure a rebuild of this many images."""
    admin = load_settings(root)
    require_engines(admin, "kafka", "cassandra", "s3")
    with isolated(admin, topics=True, keyspace=True, bucket=True) as settings:
        print(json.dumps(asyncio.run(measure(settings, images)), indent=2))


if __name__ == "__main__":
    run(lambda: typer.run(main))
