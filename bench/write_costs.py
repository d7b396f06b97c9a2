"""What writes to a gateway cost: their time, and the CPU time of each process. wrk sends the requests."""

from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal
from uuid import UUID

from bench.deployment import ENGINES, Deployment, settled_records
from bench.floors.writes import BareWrites
from bench.load import Load, Request, drive, multipart
from bench.machine import CpuMeter
from bench.records import answer, logged, upload
from shared.cassandra.index import CassandraIndex
from shared.concurrency import for_each
from shared.contract.keys import Owner
from shared.observability.metrics import Service
from shared.read_model.tables import event_writes

Method = Literal["POST", "PUT", "DELETE"]

UPLOAD = Request("/images?user_id=1")
ROWS_AT_ONCE = 16
CLIENT = "client"
"""The process that sends the requests."""
MAX_SECONDS = 120.0
"""Longest time of a run with a fixed number of requests, which takes a few seconds."""


@dataclass(frozen=True)
class Cost:
    """A run of writes. `cpu` has the CPU time by process, in ms for each write."""

    p50_ms: float
    rate: float
    cpu: Mapping[str, float]

    @property
    def all_cpu(self) -> float:
        """CPU time of all processes."""
        return sum(self.cpu.values())


@dataclass(frozen=True)
class StoredImage:
    """A ready image, the only one of its owner. `version` is the one that `If-Match` can require."""

    image_id: UUID
    owner: Owner
    version: str

    @property
    def path(self) -> str:
        """Path of the image."""
        return f"/images/{self.image_id}"

    @property
    def owner_path(self) -> str:
        """Path of all images of its owner."""
        return f"/images?user_id={self.owner.id}"


async def stored_images(running: Deployment, number: int) -> Iterator[StoredImage]:
    """Write the rows of so many images, as the indexer does. Use each for one write.

    Their versions are of the epoch before that of the deployment, so every command of the deployment is later.
    """
    settings = running.settings
    earlier = settings.model_copy(update={"epoch": settings.epoch - 1})
    commands = [
        logged(upload(offset, settings, Owner(type="user", id=f"stored-{offset}")), offset, earlier)
        for offset in range(1, number + 1)
    ]
    index = await CassandraIndex.open(settings)
    try:
        events = (answer(command, settings) for command in commands)
        await for_each(events, lambda event: index.apply(event_writes(event, settings.day_shards)), ROWS_AT_ONCE)
    finally:
        await index.close()
    return iter(
        [StoredImage(each.command.image_id, each.command.owner, str(each.revision_version)) for each in commands]
    )


class Writes:
    """Sends writes to the gateway of a deployment. Uploads and replacements have the same file."""

    def __init__(self, running: Deployment, data: bytes) -> None:
        self._running = running
        self._form = running.directory / "form"
        body, self._content_type = multipart(data)
        self._form.write_bytes(body)

    async def uploads(self, clients: int, seconds: float) -> Cost:
        """The cost of uploads for this time."""
        return await self._cost(self._drive("POST", clients, seconds), 1)

    async def each(self, method: Method, requests: Sequence[Request], clients: int, records: int = 1) -> Cost:
        """The cost of these requests, each sent once. A request appends so many `records` to the log."""
        return await self._cost(self._drive(method, clients, MAX_SECONDS, requests), records)

    async def _drive(self, method: Method, clients: int, seconds: float, requests: Sequence[Request] = ()) -> Load:
        has_file = method != "DELETE"
        return await drive(
            self._running.base_url + UPLOAD.path, clients=clients, seconds=seconds, method=method,
            headers={"Content-Type": self._content_type} if has_file else None,
            body=self._form if has_file else None, requests=requests,
        )  # fmt: skip

    async def _cost(self, driving: Awaitable[Load], records: int) -> Cost:
        """Read the meter once the index is up to date: its work belongs to the write too."""
        settled, meter = settled_records(self._running.services[Service.INDEXER]), self._running.meter()
        done = await driving
        await self._running.written(settled + records * done.requests)
        return Cost(done.p50_ms, done.rate, _per_write(meter.seconds() | {CLIENT: done.client_cpu}, done.requests))


async def bare_cost(
    running: Deployment, writes: BareWrites, write: Callable[[], Awaitable[None]], clients: int, seconds: float
) -> Cost:
    """The cost of one of these bare writes, repeated for this time."""
    meter = CpuMeter({name: running.stack.pid(name) for name in ENGINES})
    done = await writes.run(write, clients, seconds)
    return Cost(done.p50_ms, done.rate, _per_write(meter.seconds() | {CLIENT: done.client_cpu}, done.writes))


def _per_write(seconds: Mapping[str, float], writes: int) -> dict[str, float]:
    """Milliseconds of each process for one write."""
    return {name: 1000 * value / writes for name, value in seconds.items()}
