"""What each guarantee of a write costs: the same write with it and without it, on engines and services of its own.

    python -m bench.guarantees [--rounds 5] [--requests 150]

All kinds of writes are measured in turn: the time with one client, and the CPU time of each process with many. What a
guarantee adds is the median of the differences of the rounds. No processor runs beside them.
"""

import asyncio
import json
import statistics
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from typing import Annotated, Any
from uuid import uuid4

import typer
from rich.console import Console

from bench.deployment import Deployment, deployment, engines
from bench.figures import Rounds
from bench.load import Request, require_wrk
from bench.machine import CpuMeter, Watch, own_cpu
from bench.photos import jpeg_of_size
from bench.report import RESULTS, commit, rounded
from bench.stack import run
from bench.suites.gateway import UPLOAD_BYTES, WRITE_CLIENTS
from bench.write_costs import UPLOAD, Cost, Method, StoredImage, Writes, stored_images
from shared.cassandra.index import CassandraIndex
from shared.concurrency import for_each
from shared.contract.keys import Owner
from shared.observability.metrics import Service

FILE = RESULTS / "guarantees.json"
FENCE_READ = "the owner's record of fences, which each PUT reads"

Images = Iterator[StoredImage]


def _keyed(_images: Images) -> Request:
    return Request(UPLOAD.path, {"Idempotency-Key": str(uuid4())})


def _image(images: Images) -> Request:
    return Request(next(images).path)


def _version(images: Images) -> Request:
    image = next(images)
    return Request(image.path, {"If-Match": f'"{image.version}"'})


def _owner(images: Images) -> Request:
    return Request(next(images).owner_path)


@dataclass(frozen=True)
class Kind:
    """A kind of write, which appends so many `records` to the log. `request` makes one, from an image of its own."""

    name: str
    method: Method
    request: Callable[[Images], Request]
    records: int = 1

    @property
    def updates(self) -> bool:
        """Whether a request needs an image."""
        return self.method != "POST"


POST = Kind("POST", "POST", lambda _: UPLOAD)
PUT = Kind("PUT of an image", "PUT", _image)
DELETE = Kind("DELETE of an image", "DELETE", _image)
GUARANTEES = {
    Kind("POST with `Idempotency-Key`", "POST", _keyed): POST,
    Kind("PUT of an image with `If-Match`", "PUT", _version): PUT,
    Kind("PUT of an owner's only image: the lease of the set", "PUT", _owner): PUT,
    Kind("DELETE of an image with `If-Match`", "DELETE", _version): DELETE,
    Kind("DELETE of an owner with one image: the fence", "DELETE", _owner, records=2): DELETE,
}
"""Writes with a guarantee, and the same ones without it."""
KINDS = (POST, PUT, DELETE, *GUARANTEES)


@dataclass(frozen=True)
class Sample:
    """A kind of write in one round: ms of one client, and CPU time of each process in ms, with many clients."""

    p50_ms: float
    cpu: Mapping[str, float]

    def less(self, other: "Sample") -> "Sample":
        """What this one takes more than the other one."""
        cpu = {name: used - other.cpu[name] for name, used in self.cpu.items()}
        return Sample(self.p50_ms - other.p50_ms, cpu)


@dataclass(frozen=True)
class Measured:
    """The samples of all rounds: of each kind of write, and of reading a record of fences."""

    writes: Mapping[Kind, Sequence[Sample]]
    fence_reads: Sequence[Sample]

    def document(self) -> dict[str, Any]:
        """The medians of the rounds, as JSON types."""
        plain = [summary(kind.name, self.writes[kind]) for kind in KINDS if kind not in GUARANTEES]
        guarantees = [
            summary(kind.name, self._added(kind, without)) | {"without": without.name}
            for kind, without in GUARANTEES.items()
        ]
        return {"writes": plain, "guarantees": [*guarantees, summary(FENCE_READ, self.fence_reads) | {"without": None}]}

    def _added(self, kind: Kind, without: Kind) -> list[Sample]:
        pairs = zip(self.writes[kind], self.writes[without], strict=True)
        return [one.less(other) for one, other in pairs]


def summary(name: str, samples: Sequence[Sample]) -> dict[str, Any]:
    """The medians of the samples."""
    cpu = {process: statistics.median(each.cpu[process] for each in samples) for process in samples[0].cpu}
    return {"name": name, "p50_ms": statistics.median(each.p50_ms for each in samples), "cpu_ms": cpu}


async def measure(running: Deployment, rounds: int, requests: int) -> Measured:
    """Measure everything in turn."""
    plan = Rounds(rounds, 0, lambda _: None)
    writes = Writes(running, jpeg_of_size(UPLOAD_BYTES))
    images = await stored_images(running, sum(kind.updates for kind in KINDS) * 2 * plan.runs * requests)

    async def cost(kind: Kind, clients: int) -> Cost:
        made = [kind.request(images) for _ in range(requests)]
        return await writes.each(kind.method, made, clients, kind.records)

    async def write(kind: Kind) -> Sample:
        return Sample((await cost(kind, 1)).p50_ms, (await cost(kind, WRITE_CLIENTS)).cpu)

    index = await CassandraIndex.open(running.settings)
    try:
        *written, reads = await plan.in_turn(
            *(partial(write, kind) for kind in KINDS), lambda: read_fences(running, index, requests)
        )
    finally:
        await index.close()
    return Measured(dict(zip(KINDS, written, strict=True)), reads)


async def read_fences(running: Deployment, index: CassandraIndex, requests: int) -> Sample:
    """Read records of fences with the gateway's code, in this process."""
    owners = [Owner(type="user", id=f"reader-{number}") for number in range(requests)]
    times = []
    for owner in owners:
        started = time.perf_counter()
        await index.cleared_before(owner)
        times.append(time.perf_counter() - started)
    meter, before = CpuMeter({"cassandra": running.stack.pid("cassandra")}), own_cpu()
    await for_each(owners, index.cleared_before, WRITE_CLIENTS)
    cpu = meter.seconds() | {Service.GATEWAY: own_cpu() - before}
    return Sample(1000 * statistics.median(times), {name: 1000 * used / requests for name, used in cpu.items()})


def main(
    rounds: Annotated[int, typer.Option(min=1, help="Rounds; the result has their medians.")] = 5,
    requests: Annotated[int, typer.Option(min=1, help="Requests of each kind in a run.")] = 150,
) -> None:
    """Measure what each guarantee of a write costs."""
    require_wrk()
    watch = Watch()
    with engines() as stack, deployment(stack, Service.GATEWAY, Service.INDEXER) as running:
        measured = asyncio.run(measure(running, rounds, requests))
        found = {
            "measured_at": datetime.now(UTC).isoformat(timespec="seconds"),
            "commit": commit(),
            "rounds": rounds,
            "requests": requests,
            "machine": watch.conditions().document(),
        }
        # Before the deployment is removed, so that an error of that does not cost the figures.
        FILE.write_text(json.dumps(rounded(found | measured.document()), indent=1) + "\n")
    Console(stderr=True, highlight=False).print(f"Written: {FILE}")


if __name__ == "__main__":
    run(lambda: typer.run(main))
