"""The processor as a process on real engines: killed, ended and without an engine. Nothing is lost."""

import signal
from collections.abc import AsyncIterator, Iterator, Sequence
from datetime import timedelta
from pathlib import Path

import pytest

from processor.consuming.faust_app import GROUP
from shared.contract.events import Command, Ready, Uploaded
from shared.contract.keys import Owner
from shared.observability.metrics import Service
from shared.s3.store import S3Store
from shared.settings import Settings
from tests.support import images
from tests.support.isolation import isolated
from tests.support.log import committed, publisher, read_answers
from tests.support.processes.service import ServiceProcess
from tests.support.stored_upload import put_upload
from tests.support.waiting import wait_for_async

UPLOADS = 30


@pytest.fixture
def settings(engines: Settings) -> Iterator[Settings]:
    with isolated(engines, topics=True, bucket=True, topic_partitions=4) as found:
        yield found


@pytest.fixture
async def store(settings: Settings) -> AsyncIterator[S3Store]:
    found = S3Store.from_settings(settings)
    yield found
    await found.close()


@pytest.fixture
def processor(settings: Settings, tmp_path: Path) -> Iterator[ServiceProcess]:
    found = ServiceProcess(Service.PROCESSOR, settings, tmp_path / "processor.log")
    yield found
    found.end()


async def make_uploads(store: S3Store, settings: Settings, count: int = UPLOADS) -> list[Uploaded]:
    photos = [images.encode(images.photo(900 + 20 * n, 600), "JPEG") for n in range(3)]
    return [
        await put_upload(
            store,
            Owner(type="user", id=str(n % 5)),
            photos[n % 3],
            settings.public_base_url,
            ladder=settings.ladder,
        )
        for n in range(count)
    ]


async def wait_done(processor: ServiceProcess, count: int) -> None:
    await wait_for_async(lambda: len(processor.logged("command_done")) >= count, 60, f"{count} commands are done")


async def append(settings: Settings, commands: Sequence[Command]) -> None:
    async with publisher(settings) as log:
        await log.commands(commands)


async def check_all_ready(settings: Settings, store: S3Store, uploads: list[Uploaded]) -> None:
    """Each image has one answer (a repeated one is equal), and each file that it names is in the bucket."""
    events = await read_answers(settings, {upload.image_id for upload in uploads})
    for upload in uploads:
        answers = [event for event in events if event.image_id == upload.image_id]
        assert answers
        assert all(answer == answers[0] for answer in answers), "a repeated answer differs"
        ready = answers[0]
        assert isinstance(ready, Ready)
        assert [variant.name for variant in ready.current.variants] == list(upload.ladder.names)
        for variant in ready.current.variants:
            assert (await store.head(variant.path)).size == variant.size


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
async def test_processor_ended_during_uploads_loses_nothing(
    settings: Settings, store: S3Store, processor: ServiceProcess, number: signal.Signals
) -> None:
    uploads = await make_uploads(store, settings)
    processor.start()
    await processor.wait_ready_async()
    await append(settings, uploads)
    await wait_done(processor, 5)
    processor.signal(number)
    code = processor.wait_ended(30)
    assert code == (0 if number == signal.SIGTERM else -signal.SIGKILL)
    done_before = len(processor.logged("command_done"))
    assert done_before < UPLOADS, "every command was done already, so the test proves nothing"
    processor.start()
    await check_all_ready(settings, store, uploads)
    processor.signal(signal.SIGTERM)
    assert processor.wait_ended(30) == 0
    assert sum((await committed(settings, settings.topic_prefix + GROUP)).values()) == UPLOADS
    if number == signal.SIGTERM:
        assert len(processor.logged("command_done")) == UPLOADS, (
            "after SIGTERM the processor finishes what it handles, and no command is handled twice"
        )


async def test_outage_ends_the_processor_uncommitted_and_the_next_one_finishes(
    settings: Settings, store: S3Store, processor: ServiceProcess
) -> None:
    uploads = await make_uploads(store, settings, 3)
    await append(settings, uploads)
    # No server listens there, so every call to S3 fails at once.
    processor.start(s3_endpoint_url="http://127.0.0.1:1", outage_retry_limit=timedelta(seconds=1))
    assert processor.wait_ended(60) == 1
    assert await committed(settings, settings.topic_prefix + GROUP) == {}
    processor.start()
    await check_all_ready(settings, store, uploads)


def test_processor_does_not_start_without_topics(settings: Settings, processor: ServiceProcess) -> None:
    processor.start(topic_prefix="nobody-made-these.")
    assert processor.wait_ended() == 2
    assert "imagepipe topics apply" in processor.log.read_text()
