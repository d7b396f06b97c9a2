"""Images per second through the whole running stack, against a plain two-process Pillow loop in the same run.

    python -m bench.pipeline PHOTOS [--root DIR] [--rounds N]

A round posts every photo at once and ends when the last is ready. Rounds alternate, so that a slow moment of the
machine affects both; files over 5 MiB are skipped. Then, on the idle stack: the time from POST to ready of a small
JPEG.
"""

import argparse
import asyncio
import io
import multiprocessing
import os
import random
import statistics
import time
from multiprocessing.pool import Pool
from pathlib import Path

import httpx
from PIL import Image

from bench.render import WORKERS, plain
from bench.stack import run, running_stack
from ops.settings import load_settings
from ops.terminal.options import DEFAULT_ROOT
from shared.concurrency import for_each
from shared.settings import MIB

UPLOADS_AT_ONCE = 4
POLL_SECONDS = 0.05
ONE_MEGAPIXEL = (1160, 870)


async def post(http: httpx.AsyncClient, data: bytes, owner: str) -> str:
    """Upload; returns the image's id."""
    answer = await http.post("/images", params={"owner_type": "bench", "owner_id": owner}, files={"image": data})
    answer.raise_for_status()
    image_id: str = answer.json()["image_id"]
    return image_id


async def ready(http: httpx.AsyncClient, image_id: str) -> None:
    """Wait until the image is ready."""
    while True:
        answer = await http.get(f"/images/{image_id}/metadata", headers={"Cache-Control": "no-cache"})
        document = answer.raise_for_status().json()
        if document["status"] == "ready":
            return
        if document["status"] == "failed":
            raise RuntimeError(f"{image_id}: {document['error']}")
        await asyncio.sleep(POLL_SECONDS)


async def all_ready(http: httpx.AsyncClient, owner: str, count: int) -> None:
    """Wait until all images of an owner are ready. Each poll is one request, so that polling costs little."""
    while True:
        answer = await http.get(
            "/images",
            params={"owner_type": "bench", "owner_id": owner, "limit": 500},
            headers={"Cache-Control": "no-cache"},
        )
        if sum(document["status"] == "ready" for document in answer.raise_for_status().json()) == count:
            return
        await asyncio.sleep(4 * POLL_SECONDS)


async def run_pipeline(http: httpx.AsyncClient, photos: list[bytes], number: int) -> float:
    """Seconds from the first POST until every photo is ready."""
    owner = f"{os.getpid()}-{number}"
    started = time.perf_counter()
    await for_each(photos, lambda photo: post(http, photo, owner), UPLOADS_AT_ONCE)
    await all_ready(http, owner, len(photos))
    return time.perf_counter() - started


def run_plain(pool: Pool, photos: list[bytes]) -> float:
    """Seconds of one pass of the plain loop."""
    started = time.perf_counter()
    for _ in pool.imap_unordered(plain, photos, chunksize=1):
        pass
    return time.perf_counter() - started


def one_megapixel(seed: int) -> bytes:
    """A JPEG of about a megapixel and natural smoothness: noise of a few pixels, scaled up."""
    rng = random.Random(seed)
    noise = Image.frombytes("RGB", (116, 87), rng.randbytes(116 * 87 * 3))
    buffer = io.BytesIO()
    noise.resize(ONE_MEGAPIXEL, Image.Resampling.BICUBIC).save(buffer, "JPEG", quality=88)
    return buffer.getvalue()


async def latency(http: httpx.AsyncClient, count: int) -> list[float]:
    """Seconds from POST to ready, one image at a time."""
    found = []
    for number in range(count):
        photo = one_megapixel(number)
        started = time.perf_counter()
        await ready(http, await post(http, photo, "latency"))
        found.append(time.perf_counter() - started)
    return found


async def measure(base_url: str, photos: list[bytes], rounds: int) -> None:
    """Alternate both and print the figures."""
    ours, theirs = [], []
    async with httpx.AsyncClient(base_url=base_url, timeout=60) as http:
        await run_pipeline(http, photos[:2], -1)
        with multiprocessing.get_context("spawn").Pool(WORKERS) as pool:
            pool.map(plain, photos[:1] * WORKERS)
            for number in range(rounds):
                theirs.append(run_plain(pool, photos))
                ours.append(await run_pipeline(http, photos, number))
                print(f"round {number + 1}: plain {theirs[-1]:.2f} s, pipeline {ours[-1]:.2f} s", flush=True)
        waits = await latency(http, 15)
    for name, seconds in (("plain loop", theirs), ("pipeline", ours)):
        print(f"{name}: {len(photos) / min(seconds):.2f} images/s, best of {rounds}")
    ratio = statistics.median(a / b for a, b in zip(theirs, ours, strict=True))
    print(f"ratio (pipeline to plain, more is better): {ratio:.2f}, median of {rounds}")
    print(f"POST to ready, 1 megapixel JPEG, idle: median {statistics.median(waits) * 1000:.0f} ms of {len(waits)}")


def main() -> None:
    """Parse arguments and measure."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("photos", type=Path)
    parser.add_argument("--root", type=Path, default=DEFAULT_ROOT, help="directory of the running stack")
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args()
    running_stack(arguments.root)
    files = sorted(file for file in arguments.photos.iterdir() if file.suffix in {".jpg", ".jpeg", ".png", ".webp"})
    photos = [file.read_bytes() for file in files if file.stat().st_size <= 5 * MIB]
    print(f"{len(photos)} photos, {WORKERS} processes, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}")
    asyncio.run(measure(load_settings(arguments.root).public_base_url, photos, arguments.rounds))


if __name__ == "__main__":
    run(main)
