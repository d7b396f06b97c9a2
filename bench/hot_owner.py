"""What a hot owner costs the others: their time from POST to ready, with nine tenths of the uploads by one owner.

    python -m bench.hot_owner [--root DIR] [--rate 2] [--seconds 40] [--rounds 3]

Three loads in turn, so that a slow moment of the machine affects all: the others alone, with a tenth of the rate; the
whole rate spread over many owners; the whole rate with one owner sending the other nine tenths. Uploads come at fixed
times, whether earlier ones are ready or not. What a hot owner costs is the third against the second: both are as busy.
"""

import argparse
import asyncio
import os
import statistics
import time
from pathlib import Path

import httpx

from bench.photos import one_megapixel
from bench.stack import run, running_stack
from bench.uploading import upload_and_wait
from imagepipe_client import AsyncClient
from ops.settings import load_settings
from ops.terminal.options import DEFAULT_ROOT

OTHERS = 10
HOT_SHARE = 9
"""Uploads of the crowd, or of the hot owner, for each of the others'."""
QUIET, SPREAD, HOT = "others alone", "spread over many owners", "nine tenths by one owner"


def owners_of(load: str, number: int) -> str | None:
    """The owner of the upload with this number, or None if this load leaves it out."""
    if number % (HOT_SHARE + 1) == 0:
        return f"other-{number // (HOT_SHARE + 1) % OTHERS}"
    return {QUIET: None, SPREAD: f"crowd-{number % 97}", HOT: "hot"}[load]


async def run_load(client: AsyncClient, load: str, rate: float, seconds: float, photos: list[bytes]) -> list[float]:
    """Seconds from POST to ready of each of the others' uploads."""
    taken: list[float] = []

    async def one(number: int, owner: str) -> None:
        await asyncio.sleep(number / rate)
        started = time.perf_counter()
        await upload_and_wait(client, photos[number % len(photos)], f"{os.getpid()}-{owner}")
        if owner.startswith("other"):
            taken.append(time.perf_counter() - started)

    senders = ((number, owners_of(load, number)) for number in range(int(rate * seconds)))
    await asyncio.gather(*(one(number, owner) for number, owner in senders if owner is not None))
    return taken


async def measure(base_url: str, rate: float, seconds: float, rounds: int) -> None:
    """Run the loads in turn and print the figures."""
    photos = [one_megapixel(seed) for seed in range(20)]
    taken: dict[str, list[float]] = {QUIET: [], SPREAD: [], HOT: []}
    limits = httpx.Limits(max_connections=None)
    async with httpx.AsyncClient(timeout=60, limits=limits) as http:
        client = AsyncClient(base_url, http=http)
        await run_load(client, SPREAD, rate, 5, photos)
        for _ in range(rounds):
            for load in taken:
                taken[load] += await run_load(client, load, rate, seconds, photos)
    for load, found in taken.items():
        print(
            f"{load}: median {statistics.median(found) * 1000:.0f} ms, "
            f"90 % within {statistics.quantiles(found, n=10)[-1] * 1000:.0f} ms, {len(found)} uploads of the others"
        )
    ratio = statistics.median(taken[HOT]) / statistics.median(taken[SPREAD])
    print(f"the others with a hot owner against the same rate spread (less is better): {ratio:.2f}")


def main() -> None:
    """Parse arguments and measure."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--root", type=Path, default=DEFAULT_ROOT, help="directory of the running stack")
    parser.add_argument("--rate", type=float, default=2, help="uploads a second in all; below what the machine renders")
    parser.add_argument("--seconds", type=float, default=40)
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args()
    running_stack(arguments.root)
    print(f"{arguments.rate:g} uploads a second, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}")
    asyncio.run(
        measure(load_settings(arguments.root).public_base_url, arguments.rate, arguments.seconds, arguments.rounds)
    )


if __name__ == "__main__":
    run(main)
