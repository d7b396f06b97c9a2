"""What tests of the processor share: originals in the bucket, commands in the log, answers, and processes to kill."""

import asyncio
import hashlib
import json
import os
import signal
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient
from pydantic import BaseModel, SecretStr

from processor.consuming.faust_app import GROUP
from shared.contract.encoding import decode_event
from shared.contract.events import Command, Event, Original, Uploaded
from shared.contract.keys import Owner, new_id, original_key
from shared.kafka.producer import Producer, client_options
from shared.kafka.writers import KafkaCommandLog
from shared.ports import ObjectStore
from shared.read_model.documents import media_url
from shared.settings import Settings, Topic
from tests.support import images
from tests.support.waiting import within


def environment(settings: Settings) -> dict[str, str]:
    """The settings as a process reads them."""
    return {name.upper(): _text(value) for name, value in settings if value is not None}


def _text(value: object) -> str:
    match value:
        case SecretStr():
            return value.get_secret_value()
        case BaseModel():
            return value.model_dump_json()
        case tuple():
            return ",".join(map(str, value))
        case _ if hasattr(value, "total_seconds"):
            return f"PT{value.total_seconds()}S"
        case _:
            return str(value)


async def put_upload(store: ObjectStore, owner: Owner, data: bytes, base_url: str, **fields: Any) -> Uploaded:
    """Store an original and give the command that would announce it."""
    image_id, revision = new_id(), new_id()
    path = original_key(image_id, revision, "image/jpeg")
    await store.put(path, data, "image/jpeg")
    picture = images.decode(data)
    original = Original(
        file_name="photo.jpg",
        content_type="image/jpeg",
        size=len(data),
        width=picture.width,
        height=picture.height,
        sha256=hashlib.sha256(data).hexdigest(),
        path=path,
        url=media_url(base_url, path),
    )
    return Uploaded(image_id=image_id, owner=owner, revision=revision, original=original, **fields)


async def append(settings: Settings, commands: Sequence[Command]) -> None:
    """Publish commands in this order."""
    producer = Producer(settings)
    try:
        log = KafkaCommandLog(producer, settings, "imagepipe/test")
        for command in commands:
            await log.append(command)
    finally:
        await producer.close()


@asynccontextmanager
async def reader(settings: Settings, topic: Topic) -> AsyncIterator[AIOKafkaConsumer]:
    """A consumer of a whole topic from its beginning, in no group."""
    name = settings.topic(topic)
    consumer = AIOKafkaConsumer(**client_options(settings), auto_offset_reset="earliest", enable_auto_commit=False)
    await consumer.start()
    try:
        partitions = [TopicPartition(name, number) for number in range(settings.topic_partitions)]
        consumer.assign(partitions)
        await consumer.seek_to_beginning(*partitions)
        yield consumer
    finally:
        await consumer.stop()


async def read_answers(settings: Settings, wanted: set[Any], seconds: float = 60) -> list[Event]:
    """Every event until each wanted image has one, and what came within a second after."""
    events: list[Event] = []
    async with reader(settings, Topic.EVENTS) as consumer, within(seconds):
        missing = set(wanted)
        while missing:
            events += await _read(consumer)
            missing -= {event.image_id for event in events}
        events += await _read(consumer)
    return events


async def _read(consumer: AIOKafkaConsumer) -> list[Event]:
    batches = await consumer.getmany(timeout_ms=1000)
    return [decode_event(record.value) for records in batches.values() for record in records]


async def read_records(settings: Settings, topic: Topic, count: int, seconds: float = 30) -> list[Any]:
    """The first `count` records of a topic, as aiokafka gives them."""
    found: list[Any] = []
    async with reader(settings, topic) as consumer, within(seconds):
        while len(found) < count:
            batches = await consumer.getmany(timeout_ms=500)
            found += [record for records in batches.values() for record in records]
    return found


async def committed(settings: Settings, group: str | None = None) -> dict[int, int]:
    """Committed positions of a group (the processor's own) by partition of the commands topic."""
    admin = AIOKafkaAdminClient(**client_options(settings))
    await admin.start()
    try:
        offsets = await admin.list_consumer_group_offsets(group or settings.topic_prefix + GROUP)
        name = settings.topic(Topic.COMMANDS)
        return {tp.partition: meta.offset for tp, meta in offsets.items() if tp.topic == name and meta.offset >= 0}
    finally:
        await admin.close()


@dataclass
class ProcessorProcess:
    """`python -m processor` as a child of the test, with its log in a file."""

    settings: Settings
    log: Path
    extra: dict[str, str] = field(default_factory=dict)
    process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        env = os.environ | environment(self.settings) | self.extra
        with self.log.open("ab") as output:
            self.process = subprocess.Popen([sys.executable, "-m", "processor"], env=env, stdout=output, stderr=output)

    def signal(self, number: signal.Signals) -> None:
        assert self.process is not None
        self.process.send_signal(number)

    def wait(self, seconds: float) -> int:
        assert self.process is not None
        return self.process.wait(seconds)

    def end(self) -> None:
        if self.process is not None and self.process.poll() is None:
            self.process.kill()
            self.process.wait(10)

    async def wait_ready(self, seconds: float = 40) -> None:
        url = f"http://127.0.0.1:{self.settings.processor_internal_port}/readyz"
        async with within(seconds):
            while not await asyncio.to_thread(_answers, url):
                assert self.process is not None
                assert self.process.poll() is None, f"processor ended: {self.log.read_text()[-3000:]}"
                await asyncio.sleep(0.1)

    def done(self) -> list[dict[str, Any]]:
        """What the log says of commands that were brought to an end."""
        lines = []
        for line in self.log.read_text().splitlines():
            with suppress(ValueError):
                entry = json.loads(line)
                if entry.get("event") == "command_done":
                    lines.append(entry)
        return lines


def _answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=6) as answer:
            return bool(answer.status == 200)
    except (urllib.error.URLError, OSError):
        return False
