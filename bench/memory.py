"""Peak memory of processor and gateway under the loads that their bounds are made for, on the running local stack.

    python -m bench.memory [--root DIR] [--images 500] [--seconds 300] [--uploads 64]

Twelve-megapixel photos are queued and rendered for a while, with the memory of the processor and its render processes
summed; then the given number of 5 MiB uploads is sent at once, with the memory of the gateway. RSS counts what
processes share once for each process, PSS once in total, which is what the kernel would get back.
"""

import argparse
import asyncio
import io
import os
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import httpx
import psutil
from PIL import Image

from bench.stack import run, running_stack
from deploy.local.state import State
from imagepipe_client import AsyncClient, Owner
from ops.terminal.options import DEFAULT_ROOT
from shared.concurrency import map_ordered
from shared.errors import Unavailable
from shared.settings import MIB

TWELVE_MEGAPIXELS = (4000, 3000)
LARGEST = 5 * MIB
SAMPLE_SECONDS = 0.1
UPLOADS_AT_ONCE = 8
OWNER = Owner("bench", f"memory-{os.getpid()}")
PARAMETERS = {"owner_type": OWNER.type, "owner_id": OWNER.id}


@dataclass
class Peak:
    """Highest sums over a process and its children, in bytes; `processes` at that moment."""

    rss: int = 0
    pss: int = 0
    processes: int = 0

    def take(self, pid: int) -> None:
        """Take one sample."""
        rss = pss = processes = 0
        parent = psutil.Process(pid)
        for process in (parent, *parent.children(recursive=True)):
            with suppress(psutil.NoSuchProcess):
                memory = process.memory_full_info()
                rss, pss, processes = rss + memory.rss, pss + memory.pss, processes + 1
        self.rss, self.pss = max(self.rss, rss), max(self.pss, pss)
        self.processes = max(self.processes, processes)

    def __str__(self) -> str:
        return f"peak RSS {self.rss / 1e6:.0f} MB, PSS {self.pss / 1e6:.0f} MB, {self.processes} processes"


@asynccontextmanager
async def watched(pid: int) -> AsyncIterator[Peak]:
    """Samples the process and its children for the length of the block."""
    peak = Peak()

    async def watch() -> None:
        while True:
            await asyncio.to_thread(peak.take, pid)
            await asyncio.sleep(SAMPLE_SECONDS)

    task = asyncio.create_task(watch())
    try:
        yield peak
    finally:
        task.cancel()


def photo() -> bytes:
    """A JPEG of twelve megapixels and natural smoothness: noise of a few pixels, scaled up. About 2 MB."""
    width, height = TWELVE_MEGAPIXELS
    noise = Image.frombytes("RGB", (width // 8, height // 8), os.urandom(width * height * 3 // 64))
    return _encoded(noise.resize(TWELVE_MEGAPIXELS, Image.Resampling.BICUBIC), "JPEG", quality=85)


def large_file() -> bytes:
    """A PNG of noise, which cannot be compressed, just below the largest accepted file."""
    side = int((LARGEST / 3) ** 0.5) - 8
    return _encoded(Image.frombytes("RGB", (side, side), os.urandom(side * side * 3)), "PNG")


def _encoded(image: Image.Image, kind: str, **options: int) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


async def post(http: httpx.AsyncClient, data: bytes) -> int:
    """Upload until it is accepted; returns how often the gateway answered 429 or 503."""
    refused = 0
    while True:
        answer = await http.post("/images", params=PARAMETERS, files={"image": data})
        if answer.status_code not in (429, 503):
            answer.raise_for_status()
            return refused
        refused += 1
        await asyncio.sleep(float(answer.headers["Retry-After"]))


async def post_all(http: httpx.AsyncClient, make: Callable[[], bytes], count: int, at_once: int) -> int:
    """Upload the same file `count` times; returns how many answers were 429 or 503."""
    data = make()
    return sum(await map_ordered(range(count), lambda _: post(http, data), at_once))


async def rendered(client: AsyncClient) -> int:
    """How many of this run's images are ready."""
    found = await client.snapshot(OWNER, page_size=500)
    return sum(image.status == "ready" for image in found.images)


async def measure(state: State, images: int, seconds: float, uploads: int) -> None:
    """Run both loads and print what they took."""
    processor, gateway = (_pid(state, name) for name in ("processor", "gateway"))
    limits = httpx.Limits(max_connections=None)
    async with httpx.AsyncClient(base_url=state.gateway_url or "", timeout=300, limits=limits) as http:
        client = AsyncClient(state.gateway_url or "", http=http)
        async with watched(processor) as idle:
            await asyncio.sleep(1)
        print(f"processor, idle: {idle}", flush=True)
        started = time.monotonic()
        async with watched(processor) as peak:
            await post_all(http, photo, images, UPLOADS_AT_ONCE)
            print(f"{images} photos of 12 megapixels queued in {time.monotonic() - started:.0f} s", flush=True)
            done = 0
            while done < images and time.monotonic() - started < seconds:
                await asyncio.sleep(2)
                done = await rendered(client)
        print(f"processor, {done} of {images} rendered in {time.monotonic() - started:.0f} s: {peak}", flush=True)
        async with watched(gateway) as idle:
            await asyncio.sleep(1)
        print(f"gateway, before: {idle}", flush=True)
        async with watched(gateway) as peak:
            refused = await post_all(http, large_file, uploads, uploads)
        print(f"gateway, {uploads} uploads of 5 MiB at once ({refused} times told to come back): {peak}")


def _pid(state: State, name: str) -> int:
    part = state.parts.get(name)
    if part is None or part.process is None:
        raise Unavailable(name, "it does not run: start the stack with its services, `imagepipe up`")
    return part.process.pid


def main() -> None:
    """Parse arguments and measure."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--root", type=Path, default=DEFAULT_ROOT)
    parser.add_argument("--images", type=int, default=500)
    parser.add_argument("--seconds", type=float, default=300, help="how long to watch the queue being rendered")
    parser.add_argument("--uploads", type=int, default=64)
    arguments = parser.parse_args()
    state = running_stack(arguments.root)
    print(f"{os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}")
    asyncio.run(measure(state, arguments.images, arguments.seconds, arguments.uploads))


if __name__ == "__main__":
    run(main)
