"""Synthetic commands and answers as the gateway and the processor make them, and a log of them."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from shared.concurrency import for_each
from shared.contract.events import Current, Original, Ready, Uploaded, Variant
from shared.contract.keys import Owner, command_version, new_id, original_key, variant_key
from shared.contract.logged_command import LoggedRenderCommand
from shared.kafka.producer import Producer
from shared.kafka.writers import KafkaCommandLog, KafkaEventLog
from shared.read_model.documents import media_url
from shared.settings import Settings

SOURCE = "imagepipe/bench"
AT_ONCE = 100
OWNERS = 500


def upload(number: int, settings: Settings, owner: Owner | None = None) -> Uploaded:
    """A command as the gateway would send it, of one of many owners."""
    image_id, revision = new_id(), new_id()
    path = original_key(image_id, revision, "image/jpeg")
    original = Original(
        file_name=f"photo-{number}.jpg", content_type="image/jpeg", size=2_400_000, width=4000, height=3000,
        sha256=f"{number:064x}", path=path, url=media_url(settings.public_base_url, path),
    )  # fmt: skip
    owner = owner or Owner(type="user", id=str(number % OWNERS))
    return Uploaded(image_id=image_id, owner=owner, revision=revision, original=original, ladder=settings.ladder)


def logged(command: Uploaded, offset: int, settings: Settings) -> LoggedRenderCommand:
    """The command as a consumer reads it at this offset."""
    return LoggedRenderCommand(command, command_version(settings.epoch, offset))


def answer(logged: LoggedRenderCommand, settings: Settings) -> Ready:
    """The processor's answer to it."""
    command, render = logged.command, logged.render
    variants = []
    for number, name in enumerate(command.ladder.names):
        path = variant_key(command.image_id, command.revision, render, name)
        variants.append(
            Variant(
                name=name, path=path, url=media_url(settings.public_base_url, path), content_type="image/webp",
                width=4000 >> number, height=3000 >> number, size=900_000 >> number,
                sha256=f"{logged.version + number:064x}",
            )
        )  # fmt: skip
    current = Current(
        revision=command.revision, revision_version=logged.revision_version, render=render, original=command.original,
        thumbhash="1QcSHQRnh493V4dIh4eXh1h4kJUI", dominant_color="#7f6f5f", variants=tuple(variants),
    )  # fmt: skip
    return logged.ready(current)


async def fill_log(settings: Settings, images: int) -> None:
    """Append the commands of so many images, and their answers."""
    async with producing(settings) as producer:
        commands = KafkaCommandLog(producer, settings, SOURCE)
        events = KafkaEventLog(producer, settings, SOURCE)

        async def one(number: int) -> None:
            command = upload(number, settings)
            appended = await commands.append(command)
            await events.publish(answer(logged(command, appended.offset or 0, settings), settings))

        await for_each(range(images), one, AT_ONCE)


@asynccontextmanager
async def producing(settings: Settings) -> AsyncIterator[Producer]:
    """A connected producer, until the block ends."""
    producer = Producer(settings)
    await producer.start()
    try:
        yield producer
    finally:
        await producer.close()
