"""What the suite measures: engines of its own, and on them services with topics, a keyspace and a bucket of their own.

The engines are those of `imagepipe up`, on free ports, with their data on a disk. So each run starts without data, and
touches no other stack.
"""

import os
import tempfile
from collections.abc import AsyncIterator, Iterator
from contextlib import ExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from aiokafka import AIOKafkaConsumer, TopicPartition
from rich.console import Console

from bench.machine import CpuMeter
from deploy.local.reporting import Reporter
from deploy.local.services import ENDPOINTS
from deploy.local.state import Root
from shared.contract.encoding import decode_event
from shared.kafka.producer import client_options
from shared.observability.metrics import Service
from shared.settings import Settings, Topic
from tests.support.engines.stack import Stack, stack_at, supervised
from tests.support.isolation import isolated_deployment
from tests.support.processes.gateway import GatewayProcess
from tests.support.processes.service import ServiceProcess
from tests.support.waiting import wait_for_async

PREFIX = "imagepipe-bench-"
DISK = Path("/var/tmp")
"""On a disk by the Filesystem Hierarchy Standard, unlike /tmp, which is in memory on many systems."""
ENGINES = ("kafka", "cassandra", "s3")
UPLOADS = "imagepipe_gateway_uploads_in_flight"
SETTLED_SECONDS = 120.0


@contextmanager
def engines() -> Iterator[Stack]:
    """Engines without services, until the block ends. Call this on the main thread. Raises StackError."""
    reporter = Reporter(Console(highlight=False))
    given = {name: value for name, value in os.environ.items() if name not in ENDPOINTS.values()}
    with tempfile.TemporaryDirectory(prefix=PREFIX, dir=DISK if DISK.is_dir() else None) as directory:
        root = Root(Path(directory))
        root.create()
        with supervised(root, given, ["--engines"], reporter) as state:
            yield stack_at(root, state)


@dataclass
class Deployment:
    """Running services. `settings` are theirs; they may also create buckets. `directory` is for files of the run."""

    stack: Stack
    settings: Settings
    directory: Path
    services: dict[Service, ServiceProcess] = field(default_factory=dict)

    @property
    def base_url(self) -> str:
        """URL of the gateway."""
        return self.settings.public_base_url

    def meter(self) -> CpuMeter:
        """A meter of the engines and the services."""
        own = {str(name): service.pid for name, service in self.services.items()}
        return CpuMeter({name: self.stack.pid(name) for name in ENGINES} | own)

    async def written(self, records: int) -> None:
        """Wait until the indexer has settled so many records since it started, and the gateway handles no upload.

        At the end of its time a client leaves without the answers to its last requests. They still hold slots.
        """
        gateway, indexer = self.services[Service.GATEWAY], self.services[Service.INDEXER]
        await wait_for_async(
            lambda: settled_records(indexer) >= records, SETTLED_SECONDS, f"the indexer has settled {records} records"
        )
        await wait_for_async(
            lambda: gauge_of(gateway.get("metrics")[1], UPLOADS) == 0, SETTLED_SECONDS, "the last uploads to end"
        )


def gauge_of(metrics: str, name: str) -> float:
    """The value of a gauge without labels on a page of metrics. Raises StopIteration if it is not there."""
    return next(float(line.split()[1]) for line in metrics.splitlines() if line.startswith(f"{name} "))


@contextmanager
def deployment(stack: Stack, *wanted: Service, **changes: Any) -> Iterator[Deployment]:
    """A deployment on these engines with the wanted services, once they are ready; removed at the end of the block."""
    with isolated_deployment(stack.admin, **changes) as isolated, ExitStack() as running:
        directory = Path(running.enter_context(tempfile.TemporaryDirectory(prefix=PREFIX)))
        gateway = GatewayProcess(isolated, directory / "gateway.log")
        # The gateway's own port is in the URLs of all services.
        settings = isolated.model_copy(update={"public_base_url": gateway.base_url})
        made = Deployment(stack, settings, directory)
        for name in wanted:
            service = gateway if name is Service.GATEWAY else ServiceProcess(name, settings, directory / f"{name}.log")
            running.callback(service.end)
            service.start()
            made.services[name] = service
        for service in made.services.values():
            service.wait_ready()
        yield made


def settled_records(indexer: ServiceProcess) -> int:
    """Records that the indexer has settled since it started."""
    _, text = indexer.get("metrics")
    return sum(
        int(float(line.rpartition(" ")[2]))
        for line in text.splitlines()
        if line.startswith("imagepipe_indexer_records_total{")
    )


class Answers:
    """Follows the topic of answers, which costs the deployment nothing, unlike asking the gateway again and again."""

    def __init__(self, consumer: AIOKafkaConsumer) -> None:
        self._consumer = consumer
        self.times: dict[str, float] = {}
        """The time in seconds of each image's answer."""

    async def wait(self, image_ids: set[str]) -> None:
        """Wait until each of these images has an answer. Raises RuntimeError for an image that failed."""
        while not image_ids <= self.times.keys():
            batches = await self._consumer.getmany(timeout_ms=1000)
            for record in (record for records in batches.values() for record in records):
                event = decode_event(record.value)
                if event.type != "image.ready":
                    raise RuntimeError(f"the answer to {event.image_id} is {event}")
                self.times[str(event.image_id)] = record.timestamp / 1000


@asynccontextmanager
async def answers(settings: Settings) -> AsyncIterator[Answers]:
    """Follows the answers from now on, until the block ends."""
    consumer = AIOKafkaConsumer(**client_options(settings), group_id=None, enable_auto_commit=False)
    await consumer.start()
    try:
        topic = settings.topic(Topic.EVENTS)
        partitions = [TopicPartition(topic, number) for number in range(settings.topic_partitions)]
        consumer.assign(partitions)
        await consumer.seek_to_end(*partitions)
        yield Answers(consumer)
    finally:
        await consumer.stop()
