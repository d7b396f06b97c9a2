"""Peak memory of processor and gateway under the loads that their bounds are made for, on the running local stack.

    python -m bench.memory [--root DIR] [--repeat 5] [--requests 48]

Three loads of the processor, one after the other: the largest photo that is accepted beside small ones, which have a
render process of their own; a queue in which the other render processes share their pixels; and one photo after the
other, which two processes render side by side. Then requests with several files of 5 MiB are sent at once to the
gateway, from several addresses, because one address gets only a part of the slots. RSS counts what processes share once
for each process, PSS once in total, which is what the kernel would get back. Linux only.
"""

import asyncio
import io
import os
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass, field
from functools import cache
from itertools import cycle
from pathlib import Path
from typing import Annotated

import httpx
import psutil
import typer
from PIL import Image

from bench.deployment import gauge_of
from bench.photos import MAX_BYTES, photo
from bench.stack import run, running_stack
from deploy.local.state import PartState, State
from imagepipe_client import AsyncClient, Owner
from ops.settings import load_settings
from ops.terminal.options import DEFAULT_ROOT
from processor.fairness import SMALL_PIXELS, kept_pixels
from shared.errors import ConfigurationError, Unavailable
from shared.settings import Settings

LARGEST, LARGE, SMALL = (8000, 8000), (6000, 4000), (4000, 3000)
PIXEL_BYTES = 12
"""Memory of one pixel of an opaque image: see docs/reliability.md."""
FILES = 4
"""Of one request to the gateway."""
READ_BYTES = 256 * 1024
"""What uvloop reads of a connection at once. The reading pauses until these bytes are parsed."""
ADDRESSES = [f"127.0.0.{number}" for number in range(2, 10)]
"""Clients of the gateway: all addresses of the loopback network work on Linux. Eight get eight ninths of the slots."""
LOST_ANSWER_SECONDS = 1.0
"""Pause after an upload whose answer is lost."""
SAMPLE_SECONDS = 0.1
POLL_SECONDS = 2.0
OWNER = Owner("bench", f"memory-{os.getpid()}")
PARAMETERS = {"owner_type": OWNER.type, "owner_id": OWNER.id}


@dataclass(frozen=True)
class Load:
    """Photos for the processor, by their sizes: all queued at once, or each one when the one before it is ready."""

    name: str
    sizes: Sequence[tuple[int, int]]
    queued: bool = True


def loads(repeat: int) -> list[Load]:
    """The loads of the processor."""
    return [
        Load("64 megapixels beside 12", [LARGEST, *[SMALL] * 4] * repeat),
        Load("24 and 12 megapixels", [LARGE, LARGE, SMALL] * 2 * repeat),
        Load("24 megapixels, one after the other", [LARGE] * 2 * repeat, queued=False),
    ]


@cache
def photo_of(size: tuple[int, int]) -> bytes:
    """An opaque photo of this size, of less than 5 MiB."""
    return photo(*size, seed=0, quality=60)


def pixels_at_once(settings: Settings) -> int:
    """Maximum number of pixels that a processor decodes at the same time (`processor.fairness`).

    One image that is larger than the common pixels runs alone among them. Beside it one small image is in the place
    that is kept for it.
    """
    kept = kept_pixels(settings.render_workers, settings.max_inflight_pixels)
    return max(settings.max_inflight_pixels - kept, settings.max_pixels) + min(SMALL_PIXELS, kept)


def processor_bound(idle: int, settings: Settings) -> int:
    """Bytes that the processor may take if all images are opaque."""
    return idle + settings.max_inflight_bytes + PIXEL_BYTES * pixels_at_once(settings)


def gateway_bound(idle: int, connections: int, settings: Settings) -> int:
    """Bytes that the gateway may take while so many connections upload, and it has no live events."""
    return idle + settings.max_upload_memory + connections * READ_BYTES


@dataclass
class Peak:
    """Highest sums over a process and its children, in bytes, and the highest value of one of its gauges."""

    rss: int = 0
    pss: int = 0
    processes: int = 0
    gauge: float = 0

    def take(self, pid: int) -> None:
        """Take one sample of the memory."""
        rss = pss = processes = 0
        parent = psutil.Process(pid)
        for process in (parent, *parent.children(recursive=True)):
            with suppress(psutil.NoSuchProcess):
                memory = process.memory_full_info()
                rss, pss, processes = rss + memory.rss, pss + memory.pss, processes + 1
        self.rss, self.pss = max(self.rss, rss), max(self.pss, pss)
        self.processes = max(self.processes, processes)

    def __str__(self) -> str:
        return f"RSS {self.rss / 1e6:.0f} MB, PSS {self.pss / 1e6:.0f} MB, {self.processes} processes"


@dataclass(frozen=True)
class Watched:
    """A running service: its process, its page of metrics, and the gauge that shows how busy it is."""

    pid: int
    metrics_url: str
    gauge: str
    http: httpx.AsyncClient = field(default_factory=lambda: httpx.AsyncClient(trust_env=False, timeout=30))

    @asynccontextmanager
    async def peak(self) -> AsyncIterator[Peak]:
        """The peak during the block."""
        peak = Peak()

        async def watch() -> None:
            while True:
                await asyncio.to_thread(peak.take, self.pid)
                peak.gauge = max(peak.gauge, gauge_of((await self.http.get(self.metrics_url)).text, self.gauge))
                await asyncio.sleep(SAMPLE_SECONDS)

        task = asyncio.create_task(watch())
        try:
            yield peak
        finally:
            task.cancel()
            await asyncio.wait([task])
        if not task.cancelled():
            task.result()

    async def idle(self) -> Peak:
        """The peak of a second."""
        async with self.peak() as peak:
            await asyncio.sleep(1)
        return peak


def large_file() -> bytes:
    """A PNG of noise, which cannot be compressed, just below the largest accepted file."""
    side = int((MAX_BYTES / 3) ** 0.5) - 8
    buffer = io.BytesIO()
    Image.frombytes("RGB", (side, side), os.urandom(side * side * 3)).save(buffer, "PNG")
    return buffer.getvalue()


async def post(http: httpx.AsyncClient, files: Sequence[bytes]) -> int:
    """Upload until it is accepted; returns how often the gateway refused it.

    It answers 429 or 503, and closes the connection. A client that still sends may lose the answer.
    """
    refused = 0
    while True:
        pause = LOST_ANSWER_SECONDS
        with suppress(httpx.ReadError, httpx.WriteError):
            answer = await http.post("/images", params=PARAMETERS, files=[("image", data) for data in files])
            if answer.status_code not in (429, 503):
                answer.raise_for_status()
                return refused
            pause = float(answer.headers["Retry-After"])
        refused += 1
        await asyncio.sleep(pause)


async def ready(client: AsyncClient, images: int) -> None:
    """Wait until so many images of this run are ready. Raises RuntimeError if one failed."""
    while True:
        found = await client.snapshot(OWNER, page_size=500)
        for image in found.images:
            if image.status == "failed":
                raise RuntimeError(f"{image.id}: {image.error}")
        if sum(image.status == "ready" for image in found.images) >= images:
            return
        await asyncio.sleep(POLL_SECONDS)


async def measure_processor(base_url: str, processor: Watched, settings: Settings, repeat: int) -> None:
    """Run all loads of the processor and print what they took. Raises ConfigurationError if it is not idle."""
    idle = await processor.idle()
    if idle.gauge:
        raise ConfigurationError("the processor renders: wait until it is idle, and run this again")
    print(f"processor, idle: {idle}; bound {processor_bound(idle.rss, settings) / 1e6:.0f} MB", flush=True)
    done = 0
    async with httpx.AsyncClient(base_url=base_url, timeout=300, trust_env=False) as http:
        client = AsyncClient(base_url, http=http)
        for load in loads(repeat):
            photos = [await asyncio.to_thread(photo_of, size) for size in load.sizes]
            started = time.monotonic()
            async with processor.peak() as peak:
                for data in photos:
                    await post(http, [data])
                    done += 1
                    if not load.queued:
                        await ready(client, done)
                await ready(client, done)
            print(
                f"processor, {load.name}, {len(photos)} photos in {time.monotonic() - started:.0f} s: {peak}, "
                f"{peak.gauge:.0f} of them rendering",
                flush=True,
            )


async def measure_gateway(base_url: str, gateway: Watched, settings: Settings, requests: int) -> None:
    """Send requests at once from several addresses, and print what they took.

    This is done twice, because a new process has not loaded and allocated yet what it keeps.
    """
    files = [large_file()] * FILES
    for title in ("new process", "again"):
        idle = await gateway.idle()
        bound = gateway_bound(idle.rss, requests, settings)
        print(f"gateway, {title}, idle: {idle}; bound {bound / 1e6:.0f} MB", flush=True)
        peak, refused = await upload_at_once(base_url, gateway, files, requests)
        print(
            f"gateway, {title}, {requests} requests of {FILES} files of 5 MiB at once: {peak}, "
            f"uploads held {peak.gauge / 1e6:.0f} MB, {refused} uploads were refused",
            flush=True,
        )


async def upload_at_once(base_url: str, gateway: Watched, files: Sequence[bytes], requests: int) -> tuple[Peak, int]:
    """Send requests with these files at once; returns the peak of the gateway, and how many it refused."""
    async with AsyncExitStack() as opened:
        clients = []
        for address in ADDRESSES:
            transport = httpx.AsyncHTTPTransport(local_address=address, limits=httpx.Limits(max_connections=None))
            client = httpx.AsyncClient(base_url=base_url, transport=transport, timeout=300)
            clients.append(await opened.enter_async_context(client))
        async with gateway.peak() as peak:
            pairs = zip(range(requests), cycle(clients), strict=False)
            refused = await asyncio.gather(*(post(http, files) for _, http in pairs))
    return peak, sum(refused)


def service(state: State, name: str, gauge: str) -> Watched:
    """A service of the stack. Raises Unavailable if it does not run."""
    part = state.parts.get(name, PartState())
    if part.process is None:
        raise Unavailable(name, "it does not run: start the stack with its services, `imagepipe up`")
    return Watched(part.process.pid, str(httpx.URL(part.ready_url).join("/metrics")), gauge)


async def measure(state: State, settings: Settings, repeat: int, requests: int) -> None:
    """Measure both services."""
    processor = service(state, "processor", "imagepipe_processor_render_busy")
    gateway = service(state, "gateway", "imagepipe_gateway_upload_bytes")
    base_url = state.gateway_url or ""
    await measure_processor(base_url, processor, settings, repeat)
    await measure_gateway(base_url, gateway, settings, requests)


def main(
    root: Annotated[Path, typer.Option(help="Directory of the running stack.")] = DEFAULT_ROOT,
    repeat: Annotated[int, typer.Option(min=1, help="How often each load of the processor is repeated.")] = 5,
    requests: Annotated[int, typer.Option(min=1, help="Requests that are sent to the gateway at once.")] = 48,
) -> None:
    """Measure the peak memory of processor and gateway."""
    state = running_stack(root)
    print(f"{os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}")
    asyncio.run(measure(state, load_settings(root), repeat, requests))


if __name__ == "__main__":
    run(lambda: typer.run(main))
