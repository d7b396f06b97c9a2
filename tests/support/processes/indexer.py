"""What tests of the indexer share: records published as they are, positions of its group, and a process to kill."""

import asyncio
import os
import signal
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from aiokafka import AIOKafkaProducer
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import GroupCoordinatorNotAvailableError

from indexer.consumer import group_id
from shared.contract.encoding import encode
from shared.contract.events import Command, Event, event_key
from shared.contract.headers import ReceivedHeaders
from shared.contract.keys import command_version, events_partition
from shared.kafka.producer import client_options
from shared.settings import Settings, Topic
from tests.support.processes.processor import environment
from tests.support.waiting import within


@asynccontextmanager
async def publisher(settings: Settings) -> AsyncIterator["Publisher"]:
    """A producer for this test, with batches, so that thousands of records take no time."""
    producer = AIOKafkaProducer(**client_options(settings), acks="all", linger_ms=5)
    await producer.start()
    try:
        yield Publisher(producer, settings)
    finally:
        await producer.stop()


class Publisher:
    """Writes records to the topics as the gateway and the processor do, or any bytes."""

    def __init__(self, producer: AIOKafkaProducer, settings: Settings) -> None:
        self._producer = producer
        self._settings = settings

    async def commands(self, commands: Sequence[Command]) -> list[int]:
        """Versions of the commands, appended in this order."""
        topic = self._settings.topic(Topic.COMMANDS)
        pending = [
            await self._producer.send(topic, encode(command), key=command.owner.key.encode()) for command in commands
        ]
        return [command_version(self._settings.epoch, (await ack).offset) for ack in pending]

    async def events(self, events: Sequence[Event]) -> None:
        topic, count = self._settings.topic(Topic.EVENTS), self._settings.topic_partitions
        pending = [
            await self._producer.send(
                topic, encode(event), key=event_key(event), partition=events_partition(event.image_id, count)
            )
            for event in events
        ]
        await asyncio.gather(*pending)

    async def raw(self, topic: Topic, value: bytes | None, key: bytes = b"k", headers: ReceivedHeaders = ()) -> None:
        await self._producer.send_and_wait(self._settings.topic(topic), value, key=key, headers=list(headers))


async def positions(settings: Settings) -> dict[tuple[str, int], int]:
    """Committed positions of the indexer's group; none before the broker has a coordinator for it."""
    admin = AIOKafkaAdminClient(**client_options(settings))
    await admin.start()
    try:
        offsets = await admin.list_consumer_group_offsets(group_id(settings))
        return {(place.topic, place.partition): meta.offset for place, meta in offsets.items() if meta.offset >= 0}
    except GroupCoordinatorNotAvailableError:
        return {}
    finally:
        await admin.close()


async def wait_committed(settings: Settings, records: int, seconds: float = 60) -> None:
    """Wait until the group has committed this many records of both topics together."""
    async with within(seconds):
        while sum((await positions(settings)).values()) < records:  # noqa: ASYNC110 - Kafka does not tell
            await asyncio.sleep(0.2)


async def until(condition: Callable[[], bool], seconds: float = 30) -> None:
    async with within(seconds):
        while not condition():  # noqa: ASYNC110 - what is waited for is in another process
            await asyncio.sleep(0.02)


@dataclass
class IndexerProcess:
    """`python -m indexer` as a child of the test, with its log in a file."""

    settings: Settings
    log: Path
    process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        with self.log.open("ab") as output:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "indexer"],
                env=os.environ | environment(self.settings),
                stdout=output,
                stderr=output,
            )

    def signal(self, number: signal.Signals) -> None:
        assert self.process is not None
        self.process.send_signal(number)

    def wait(self, seconds: float = 30) -> int:
        assert self.process is not None
        return self.process.wait(seconds)

    def end(self) -> None:
        if self.process is not None and self.process.poll() is None:
            self.process.kill()
            self.process.wait(10)

    async def wait_ready(self, seconds: float = 60) -> None:
        async with within(seconds):
            while (await asyncio.to_thread(self.get, "readyz"))[0] != 200:
                assert self.process is not None
                assert self.process.poll() is None, f"the indexer ended: {self.log.read_text()[-3000:]}"
                await asyncio.sleep(0.1)

    def get(self, route: str) -> tuple[int, str]:
        """Status (0: nobody answers) and body of a route of the internal port."""
        url = f"http://127.0.0.1:{self.settings.indexer_internal_port}/{route}"
        try:
            with urllib.request.urlopen(url, timeout=6) as answer:
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as error:
            return error.code, error.read().decode()
        except (urllib.error.URLError, OSError):
            return 0, ""
