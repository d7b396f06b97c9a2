"""How long live uploads take beside a replay and beside a reprocess, against an idle stack.

Run: `python -m bench.beside --root DIR [--images 100] [--samples 60]` on a running stack. It uploads images of a
megapixel, handles all their commands again (`imagepipe replay --again`), renders all again (`imagepipe reprocess
--where all`), and uploads one live image after the other at the same time. Prints one JSON document: seconds from POST
to ready.
"""

import asyncio
import json
import os
import statistics
import sys
import uuid
from pathlib import Path
from typing import Any

import typer

from bench.photos import one_megapixel
from bench.stack import run, running_stack
from bench.uploading import upload_and_wait
from imagepipe_client import AsyncClient
from ops.settings import load_settings
from ops.terminal.options import DEFAULT_ROOT
from shared.concurrency import for_each

AT_ONCE = 4


async def fill(client: AsyncClient, count: int, owner: str) -> None:
    """Upload images and wait until all are ready."""

    async def one(number: int) -> None:
        await upload_and_wait(client, one_megapixel(number), owner)

    await for_each(range(count), one, AT_ONCE)


async def sample(client: AsyncClient, number: int) -> float:
    """Seconds from POST to ready of one image."""
    clock = asyncio.get_running_loop().time
    photo = one_megapixel(number)
    started = clock()
    await upload_and_wait(client, photo, "live")
    return clock() - started


async def beside(client: AsyncClient, root: Path, samples: int, *arguments: str) -> dict[str, Any]:
    """Samples while the command runs. The command is repeated until there are enough, and then interrupted."""
    argv = [sys.executable, "-m", "ops.cli", *arguments, "--root", str(root), "--yes"]

    async def work() -> None:
        while True:
            command = await asyncio.create_subprocess_exec(
                *argv, stdout=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.DEVNULL
            )
            try:
                if await command.wait():
                    raise RuntimeError(f"imagepipe {arguments[0]} ended with exit code {command.returncode}")
            finally:
                if command.returncode is None:
                    command.terminate()
                    await command.wait()

    working = asyncio.create_task(work())
    found = [await sample(client, 10_000 + number) for number in range(samples)]
    if working.done():
        await working
    working.cancel()
    await asyncio.wait([working])
    return summary(found)


def summary(seconds: list[float]) -> dict[str, Any]:
    """Median and 95th percentile, in seconds."""
    p95 = statistics.quantiles(seconds, n=20)[-1]
    return {"samples": len(seconds), "median": round(statistics.median(seconds), 3), "p95": round(p95, 3)}


async def measure(root: Path, images: int, samples: int) -> dict[str, Any]:
    """All three, one after the other."""
    running_stack(root)
    settings = load_settings(root)
    owner = uuid.uuid4().hex
    async with AsyncClient(settings.public_base_url) as client:
        await fill(client, images, owner)
        found: dict[str, Any] = {"load": os.getloadavg()[0]}
        found["idle"] = summary([await sample(client, number) for number in range(samples)])
        found["replay"] = await beside(client, root, samples, "replay", "--from", "beginning", "--again")
        found["reprocess"] = await beside(client, root, samples, "reprocess", "--where", "all")
    for name in ("replay", "reprocess"):
        found[f"{name}_to_idle_p95"] = round(found[name]["p95"] / found["idle"]["p95"], 2)
    return found


def main(root: Path = DEFAULT_ROOT, images: int = 100, samples: int = 60) -> None:
    """Measure live uploads beside other work."""
    print(json.dumps(asyncio.run(measure(root, images, samples)), indent=2))


if __name__ == "__main__":
    run(lambda: typer.run(main))
