"""Images per second of the render pool against a plain two-process Pillow loop with the same cascade, in one run.

    python -m bench.render PHOTOS [--rounds N]

Rounds alternate, so that a slow moment of the machine affects both; files over 5 MiB are skipped. The ratio of CPU
seconds is printed beside that of wall time, because it varies less on a shared machine.
"""

import argparse
import asyncio
import multiprocessing
import os
import statistics
import time
from dataclasses import dataclass
from io import BytesIO
from multiprocessing.pool import Pool
from pathlib import Path

import psutil
from PIL import Image, ImageOps

from processor.rendering.pool import RenderPool
from processor.rendering.render import RenderLimits
from shared.contract.ladder import Ladder
from shared.settings import MIB

WORKERS = 2
LADDER = Ladder()
LIMITS = RenderLimits(max_pixels=64_000_000, max_side=16_383, max_frames=120, max_animation_pixels=64_000_000)


@dataclass
class Round:
    """Wall time and CPU time of one pass over all photos, in seconds."""

    seconds: float
    processor_seconds: float


def plain(data: bytes) -> int:
    """What a few lines of Pillow do: open, turn, full size, each rung from the next larger. Returns bytes written."""
    image = ImageOps.exif_transpose(Image.open(BytesIO(data)))
    image = image.convert("RGBA" if image.has_transparency_data else "RGB")
    width, height = image.size
    written = _save(image, LADDER.full_quality)
    for rung in LADDER.rungs:
        new_width = rung.width_for(width)
        image = image.resize((new_width, max(1, round(height * new_width / width))), Image.Resampling.LANCZOS)
        written += _save(image, rung.quality)
    return written


def _save(image: Image.Image, quality: int) -> int:
    buffer = BytesIO()
    image.save(buffer, "WEBP", quality=quality, method=LADDER.method)
    return buffer.tell()


def _processor_seconds(pids: list[int]) -> float:
    return sum(sum(psutil.Process(pid).cpu_times()[:2]) for pid in pids)


def run_plain(pool: Pool, pids: list[int], photos: list[bytes]) -> Round:
    """One pass of the plain loop."""
    started, before = time.perf_counter(), _processor_seconds(pids)
    for _ in pool.imap_unordered(plain, photos, chunksize=1):
        pass
    return Round(time.perf_counter() - started, _processor_seconds(pids) - before)


async def run_pool(pool: RenderPool, photos: list[bytes]) -> Round:
    """One pass of the render pool; the parent's own time counts as well."""
    pids = [*pool.pids, os.getpid()]
    started, before = time.perf_counter(), _processor_seconds(pids)
    await asyncio.gather(*(pool.render(photo, LADDER, LIMITS) for photo in photos))
    return Round(time.perf_counter() - started, _processor_seconds(pids) - before)


async def compare(photos: list[bytes], rounds: int) -> None:
    """Alternate both and print the figures."""
    ours, theirs = [], []
    pool = RenderPool(WORKERS, 600)
    await pool.start()
    with multiprocessing.get_context("spawn").Pool(WORKERS) as loop:
        pids = [child.pid for child in multiprocessing.active_children() if child.pid is not None]
        loop.map(plain, photos[:1] * WORKERS)
        await asyncio.gather(*(pool.render(photos[0], LADDER, LIMITS) for _ in range(WORKERS)))
        for number in range(rounds):
            theirs.append(run_plain(loop, pids, photos))
            ours.append(await run_pool(pool, photos))
            print(f"round {number + 1}: plain {theirs[-1]}, pool {ours[-1]}", flush=True)
    await pool.close(10)
    for name, measured in (("plain loop ", theirs), ("render pool", ours)):
        best = min(item.seconds for item in measured)
        print(f"{name}: {len(photos) / best:.2f} images/s, best of {rounds}")
    clock = statistics.median(a.seconds / b.seconds for a, b in zip(theirs, ours, strict=True))
    processor = statistics.median(a.processor_seconds / b.processor_seconds for a, b in zip(theirs, ours, strict=True))
    print(f"ratio (pool to plain, more is better): {clock:.2f} by the clock, {processor:.2f} by processor time")


def main() -> None:
    """Parse arguments and compare."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("photos", type=Path)
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args()
    files = sorted(file for file in arguments.photos.iterdir() if file.suffix in {".jpg", ".jpeg", ".png", ".webp"})
    photos = [file.read_bytes() for file in files if file.stat().st_size <= 5 * MIB]
    print(f"{len(photos)} photos, {WORKERS} processes, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}")
    asyncio.run(compare(photos, arguments.rounds))


if __name__ == "__main__":
    main()
