"""The processor as a process on real engines: killed, ended, fed with poison. Nothing is lost, nothing told twice."""

import asyncio
import signal
import socket
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from shared.contract.events import Ready, Uploaded
from shared.contract.keys import Owner
from shared.s3.store import S3Store
from shared.settings import Settings
from tests.support import images
from tests.support.isolation import isolated
from tests.support.processes.processor import (
    ProcessorProcess,
    append,
    committed,
    put_upload,
    read_answers,
)
from tests.support.waiting import within

UPLOADS = 30


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.fixture
def settings(engines: Settings) -> Iterator[Settings]:
    with isolated(
        engines, topics=True, bucket=True, topic_partitions=4, processor_internal_port=free_port(), log_format="json"
    ) as found:
        yield found


@pytest.fixture
async def store(settings: Settings) -> AsyncIterator[S3Store]:
    found = S3Store.from_settings(settings)
    yield found
    await found.close()


@pytest.fixture
def processor(settings: Settings, tmp_path: Path) -> Iterator[ProcessorProcess]:
    found = ProcessorProcess(settings, tmp_path / "processor.log")
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


async def wait_done(processor: ProcessorProcess, count: int, seconds: float = 60) -> None:
    async with within(seconds):
        while not processor.log.exists() or len(processor.done()) < count:  # noqa: ASYNC110
            await asyncio.sleep(0.02)


async def check_all_ready(settings: Settings, store: S3Store, uploads: list[Uploaded]) -> None:
    """Each image has one answer (told again, it is the same), and what it names is in the bucket."""
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
async def test_ended_in_the_middle_of_uploads_loses_nothing(
    settings: Settings, store: S3Store, processor: ProcessorProcess, number: signal.Signals
) -> None:
    uploads = await make_uploads(store, settings)
    processor.start()
    await processor.wait_ready()
    await append(settings, uploads)
    await wait_done(processor, 5)
    processor.signal(number)
    code = processor.wait(30)
    assert code == (0 if number == signal.SIGTERM else -signal.SIGKILL)
    done_before = len(processor.done())
    assert done_before < UPLOADS, "nothing was under way any more: the test shows nothing"
    processor.start()
    await check_all_ready(settings, store, uploads)
    processor.signal(signal.SIGTERM)
    assert processor.wait(30) == 0
    assert sum((await committed(settings)).values()) == UPLOADS
    if number == signal.SIGTERM:
        assert len(processor.done()) == UPLOADS, "an orderly end lets what runs end, and nothing is done again"


async def test_an_outage_ends_the_process_unacked_and_the_next_one_finishes(
    settings: Settings, store: S3Store, processor: ProcessorProcess
) -> None:
    uploads = await make_uploads(store, settings, 3)
    await append(settings, uploads)
    # Nothing answers there: every call to S3 fails at once.
    processor.extra = {"S3_ENDPOINT_URL": "http://127.0.0.1:1", "OUTAGE_PATIENCE": "PT1S"}
    processor.start()
    assert processor.wait(60) == 1
    assert await committed(settings) == {}
    processor.extra = {}
    processor.start()
    await check_all_ready(settings, store, uploads)


def test_it_does_not_start_without_topics(settings: Settings, processor: ProcessorProcess) -> None:
    processor.extra = {"TOPIC_PREFIX": "nobody-made-these."}
    processor.start()
    assert processor.wait(40) == 2
    assert "imagepipe topics apply" in processor.log.read_text()
