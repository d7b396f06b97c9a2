"""The floors of writes. Of an upload or a replacement: boto3 puts the same bytes into the bucket, then Kafka
acknowledges a record. Of a deletion: Kafka acknowledges a record.

There is no HTTP, no check of the file, no row in the index. A record is as large as that of the request.
"""

import asyncio
import statistics
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from aiokafka import AIOKafkaProducer

from bench.machine import own_cpu
from bench.records import upload
from shared.contract.encoding import encode
from shared.contract.events import Deleted
from shared.contract.keys import new_id
from shared.kafka.producer import client_options
from shared.s3.store import s3_client
from shared.settings import Settings, Topic

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client


@dataclass(frozen=True)
class Writes:
    """The result of one run. `client_cpu` is the CPU time of this process, in seconds."""

    writes: int
    seconds: float
    p50_ms: float
    client_cpu: float

    @property
    def rate(self) -> float:
        """Writes per second."""
        return self.writes / self.seconds


class BareWrites:
    """Connections to the bucket and to Kafka, as the gateway has them, without its code."""

    def __init__(self, settings: Settings, client: "S3Client", producer: AIOKafkaProducer) -> None:
        self._settings = settings
        self._client = client
        self._producer = producer
        self._threads = ThreadPoolExecutor(settings.s3_threads)
        command = upload(0, settings)
        self._upload = encode(command)
        self._deletion = encode(Deleted(image_id=command.image_id, owner=command.owner))

    async def run(self, write: Callable[[], Awaitable[None]], clients: int, seconds: float) -> Writes:
        """Write with this many clients at once, for this time. Each begins a write when its last one has ended."""
        times: list[float] = []
        cpu, started = own_cpu(), time.perf_counter()

        async def write_repeatedly() -> None:
            while (began := time.perf_counter()) < started + seconds:
                await write()
                times.append(time.perf_counter() - began)

        async with asyncio.TaskGroup() as group:
            for _ in range(clients):
                group.create_task(write_repeatedly())
        elapsed = time.perf_counter() - started
        return Writes(len(times), elapsed, 1000 * statistics.median(times), own_cpu() - cpu)

    async def upload(self, data: bytes) -> None:
        """Put these bytes, then wait for the ack of a record."""
        key = f"bench/{new_id()}"
        await asyncio.get_running_loop().run_in_executor(
            self._threads,
            lambda: self._client.put_object(
                Bucket=self._settings.s3_bucket, Key=key, Body=data, ContentType="image/jpeg"
            ),
        )
        await self._append(key, self._upload)

    async def delete(self) -> None:
        """Wait for the ack of a record."""
        await self._append(f"bench/{new_id()}", self._deletion)

    async def _append(self, key: str, value: bytes) -> None:
        await self._producer.send_and_wait(self._settings.topic(Topic.DLQ), value, key=key.encode())

    def close(self) -> None:
        """End the threads."""
        self._threads.shutdown()


@asynccontextmanager
async def bare_writes(settings: Settings) -> AsyncIterator[BareWrites]:
    """Connections that are closed at the end of the block."""
    client = s3_client(settings)
    producer = AIOKafkaProducer(**client_options(settings), acks="all", enable_idempotence=True, linger_ms=0)
    await producer.start()
    writes = BareWrites(settings, client, producer)
    try:
        yield writes
    finally:
        await producer.stop()
        writes.close()
        client.close()
