"""Synthetic images on real engines: originals and commands as the gateway makes them, handled by the real handler.

Pictures are a few bytes and rendering is free, so that what is measured is the pipeline around it.
"""

import hashlib
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from uuid import UUID

from processor.handler import Handler
from processor.rendering.render import RenderedVariant, Rendering
from shared.cassandra.index import CassandraIndex
from shared.concurrency import map_ordered
from shared.contract.events import (
    Command,
    Deleted,
    Event,
    Original,
    RenderCommand,
    Replaced,
    Reprocess,
    Uploaded,
)
from shared.contract.keys import Owner, command_version, new_id, original_key
from shared.contract.ladder import Ladder
from shared.contract.logged_command import LoggedCommand, LoggedDelete, LoggedRenderCommand
from shared.kafka.producer import Producer
from shared.kafka.writers import KafkaCommandLog, KafkaEventLog
from shared.read_model.documents import media_url
from shared.read_model.tables import command_writes, event_writes
from shared.s3.store import S3Store
from shared.settings import Settings

AT_ONCE = 32


async def render(owner: Owner, data: bytes, ladder: Ladder) -> Rendering:
    """Variants of no picture in particular, different for each original and ladder."""
    variants = []
    for number, rung in enumerate(ladder.variants):
        content = f"{rung.name} {ladder.digest} ".encode() + data
        digest = hashlib.sha256(content).hexdigest()
        variants.append(RenderedVariant(rung.name, content, 1600 >> number, 1200 >> number, digest, rung.content_type))
    return Rendering(
        width=1600, height=1200, variants=tuple(variants), thumbhash="1QcSHQRnh493V4dIh4eXh1h4kJUI",
        dominant_color="#7f6f5f", notes=(),
    )  # fmt: skip


@dataclass
class Deployment:
    """A deployment without services: each method does the work of a service."""

    settings: Settings
    store: S3Store
    index: CassandraIndex
    commands: KafkaCommandLog
    events: KafkaEventLog
    handler: Handler
    ladder: Ladder

    async def upload(self, owner: Owner) -> LoggedRenderCommand:
        """Store an original and append its command."""
        image_id, revision = new_id(), new_id()
        original = await self.original(image_id, revision)
        return await self.append(
            Uploaded(image_id=image_id, owner=owner, revision=revision, original=original, ladder=self.ladder)
        )

    async def replace(self, image: LoggedRenderCommand) -> LoggedRenderCommand:
        """A new revision of an image."""
        image_id, revision = image.command.image_id, new_id()
        return await self.append(
            Replaced(
                image_id=image_id, owner=image.command.owner, image_version=image.image_version, revision=revision,
                original=await self.original(image_id, revision), ladder=self.ladder,
            )
        )  # fmt: skip

    async def original(self, image_id: UUID, revision: UUID) -> Original:
        """Store the original of a revision."""
        path = original_key(image_id, revision, "image/png")
        data = f"picture {revision}".encode()
        await self.store.put(path, data, "image/png")
        return Original(
            file_name="synthetic.png", content_type="image/png", size=len(data), width=1600, height=1200,
            sha256=hashlib.sha256(data).hexdigest(), path=path, url=media_url(self.settings.public_base_url, path),
        )  # fmt: skip

    async def append(self, command: RenderCommand) -> LoggedRenderCommand:
        """Append a command and write its row, as the gateway does."""
        logged = LoggedRenderCommand(command, await self.append_without_row(command))
        await self.index.apply(command_writes(logged, self.settings.day_shards))
        return logged

    async def append_without_row(self, command: Command) -> int:
        """Append a command alone; returns its version."""
        appended = await self.commands.append(command)
        assert appended.offset is not None
        return command_version(self.settings.epoch, appended.offset)

    async def answer(self, logged: LoggedCommand) -> Event | None:
        """Handle a command and index its answer, as processor and indexer do."""
        event = await self.handler.handle(logged)
        if event is not None:
            await self.index.apply(event_writes(event, self.settings.day_shards))
        return event

    async def ready(self, owner: Owner) -> LoggedRenderCommand:
        """An image that is uploaded and answered."""
        upload = await self.upload(owner)
        await self.answer(upload)
        return upload

    async def delete(self, image: LoggedRenderCommand) -> None:
        """Delete an image, answered."""
        command = Deleted(image_id=image.command.image_id, owner=image.command.owner)
        logged = LoggedDelete(command, await self.append_without_row(command))
        await self.index.apply(command_writes(logged, self.settings.day_shards))
        await self.answer(logged)

    async def replaced_and_deleted(self, owner: Owner) -> None:
        """An image that was replaced and then rendered with another ladder, and one that was deleted; all answered."""
        image = await self.ready(owner)
        replaced = await self.replace(image)
        await self.answer(replaced)
        await self.answer(await self.reprocess(replaced, self.ladder.model_copy(update={"full_quality": 50})))
        await self.delete(await self.ready(owner))

    async def reprocess(self, source: LoggedRenderCommand, ladder: Ladder) -> LoggedRenderCommand:
        """Append a reprocess of the source's revision with this ladder."""
        command = source.command
        return await self.append(
            Reprocess(
                image_id=command.image_id, owner=command.owner, image_version=source.image_version,
                revision=command.revision, revision_version=source.revision_version, original=command.original,
                ladder=ladder,
            )
        )  # fmt: skip

    async def many(self, count: int, owners: int = 100) -> Sequence[LoggedRenderCommand]:
        """Ready images of several owners."""

        async def one(number: int) -> LoggedRenderCommand:
            return await self.ready(Owner(type="user", id=str(number % owners)))

        return await map_ordered(range(count), one, AT_ONCE)


@asynccontextmanager
async def deployment(settings: Settings) -> AsyncIterator[Deployment]:
    """Connections to the engines that the settings name, with topics, keyspace and bucket in place."""
    producer, store = Producer(settings), S3Store.from_settings(settings)
    index = await CassandraIndex.open(settings)
    await producer.start()
    events = KafkaEventLog(producer, settings, "imagepipe/synthetic")
    try:
        yield Deployment(
            settings, store, index, KafkaCommandLog(producer, settings, "imagepipe/synthetic"), events,
            Handler(store, render, events, settings.public_base_url), settings.ladder,
        )  # fmt: skip
    finally:
        await producer.close()
        await index.close()
        await store.close()
