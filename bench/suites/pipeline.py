"""Figures of the pipeline: photos through the whole deployment, against the same photos rendered by Pillow alone."""

import asyncio
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from statistics import median
from uuid import uuid4

import httpx

from bench.deployment import Answers, Deployment, answers, deployment
from bench.figures import Aim, Figure, Rounds
from bench.floors.pillow import PillowLoop, pillow_loop
from bench.machine import cpu_of_children
from bench.photos import one_megapixel
from bench.uploading import post, ready
from processor.rendering.pool import RenderPool
from processor.rendering.render import RenderLimits
from shared.concurrency import for_each
from shared.contract.ladder import Ladder
from shared.observability.metrics import Service
from shared.settings import Settings
from tests.support.engines.stack import Stack

UPLOADS_AT_ONCE = 4
ROW_POLL_SECONDS = 0.005
"""The answer is in the log, so the row is written within milliseconds."""
LATENCIES = 10
IDLE_SECONDS = 10.0
IDLE = "idle"
"""The part of the CPU time that the processes use anyway, for timers, polls and heartbeats, while nothing is to do."""
PILLOW = "Pillow loop"


@dataclass(frozen=True)
class Pass:
    """One pass of all photos through the deployment. `other_cpu` is the CPU time of all but the render processes.

    Seconds, as are the `parts` of `other_cpu` by process.
    """

    seconds: float
    other_cpu: float = 0.0
    parts: dict[str, float] = field(default_factory=dict)


async def measure(stack: Stack, rounds: Rounds, photos: Sequence[bytes]) -> None:
    """Measure all figures of the pipeline."""
    workers = stack.settings.render_workers
    with deployment(stack, *Service) as running, pillow_loop(workers) as loop:
        async with (
            httpx.AsyncClient(base_url=running.base_url, timeout=60, trust_env=False) as http,
            answers(running.settings) as found,
        ):
            pipeline = Pipeline(running, http, found)
            await measure_rates(pipeline, loop, photos, rounds)
            await measure_latency(pipeline, loop, rounds)
    async with render_pool(stack.settings) as pool:
        with pillow_loop(workers) as loop:
            await measure_pool(pool, loop, photos, rounds)


class Pipeline:
    """Uploads to a deployment, and waits until clients see the images as ready."""

    def __init__(self, running: Deployment, http: httpx.AsyncClient, found: Answers) -> None:
        self._running = running
        self._http = http
        self._answers = found

    async def seconds(self, photos: Sequence[bytes]) -> float:
        """Seconds from the first POST until all photos are ready."""
        started, ids = time.perf_counter(), set[str]()
        owner = uuid4().hex

        async def upload(photo: bytes) -> None:
            ids.add(await post(self._http, photo, owner))

        await for_each(photos, upload, UPLOADS_AT_ONCE)
        await self._answers.wait(ids)
        for image_id in ids:
            await ready(self._http, image_id, ROW_POLL_SECONDS)
        return time.perf_counter() - started

    async def run(self, photos: Sequence[bytes]) -> Pass:
        """Upload all photos and wait for them, with the CPU time of all processes."""
        processor = self._running.services[Service.PROCESSOR].pid
        meter, rendering = self._running.meter(), cpu_of_children(processor)
        seconds = await self.seconds(photos)
        parts, rendering = meter.seconds(), cpu_of_children(processor) - rendering
        parts[Service.PROCESSOR] -= rendering
        return Pass(seconds, sum(parts.values()), parts)

    async def idle(self) -> dict[str, float]:
        """CPU seconds that each process uses in a second without work."""
        meter = self._running.meter()
        await asyncio.sleep(IDLE_SECONDS)
        return {name: used / IDLE_SECONDS for name, used in meter.seconds().items()}


async def measure_rates(pipeline: Pipeline, loop: PillowLoop, photos: Sequence[bytes], rounds: Rounds) -> None:
    """Photos per second, and the CPU time of a photo besides rendering."""
    await pipeline.run(photos[-2:])
    await loop.seconds(photos[-2:])

    async def pillow() -> Pass:
        return Pass(await loop.seconds(photos))

    async def through() -> Pass:
        return await pipeline.run(photos)

    plain, passes = await rounds.in_turn(pillow, through, warm_up=False)
    floors, values = ([len(photos) / each.seconds for each in found] for found in (plain, passes))
    rounds.report(Figure(f"pipeline, {len(photos)} photos", "images/s", PILLOW, values, floors, Aim("at least", 0.94)))
    parts = split_idle(passes, await pipeline.idle(), len(photos))
    other = [1000 * each.other_cpu / len(photos) for each in passes]
    rendering = [1000 * each.seconds / len(photos) for each in plain]
    aim = Aim("at most", 100, "value")
    rounds.report(Figure("CPU of an image besides rendering", "ms", f"{PILLOW}, time", other, rendering, aim, parts))


def split_idle(passes: Sequence[Pass], idle: dict[str, float], photos: int) -> dict[str, float]:
    """CPU time of a photo by process, in ms: what its work took, and as the part IDLE what all would use anyway."""
    anyway = {name: median(used * each.seconds for each in passes) for name, used in idle.items()}
    used = {name: median(each.parts[name] for each in passes) for name in passes[0].parts}
    work = {name: max(0.0, seconds - anyway[name]) for name, seconds in used.items()}
    return {name: 1000 * seconds / photos for name, seconds in (work | {IDLE: sum(anyway.values())}).items()}


async def measure_latency(pipeline: Pipeline, loop: PillowLoop, rounds: Rounds) -> None:
    """The time from POST to ready on an idle deployment, against the time of one process to render the photo."""
    photos = [one_megapixel(seed) for seed in range(LATENCIES)]

    async def rendered() -> float:
        return 1000 * median([await loop.seconds([photo]) for photo in photos])

    async def post_to_ready() -> float:
        return 1000 * median([await pipeline.seconds([photo]) for photo in photos])

    aim = Aim("at most", 1.0)
    await rounds.compare(
        "POST to ready, 1 MP, idle: median", "ms", (f"{PILLOW}, one photo", rendered), post_to_ready, aim
    )


@asynccontextmanager
async def render_pool(settings: Settings) -> AsyncIterator[RenderPool]:
    """The processor's pool without the processor."""
    pool = RenderPool(settings.render_workers, settings.render_timeout.total_seconds())
    await pool.start()
    try:
        yield pool
    finally:
        await pool.close(10)


async def measure_pool(pool: RenderPool, loop: PillowLoop, photos: Sequence[bytes], rounds: Rounds) -> None:
    """The render processes alone: what the pipeline could reach if all the rest were free."""
    settings, ladder = Settings(), Ladder()
    limits = RenderLimits(
        max_pixels=settings.max_pixels, max_side=settings.max_side, max_frames=settings.max_frames,
        max_animation_pixels=settings.max_animation_pixels,
    )  # fmt: skip

    async def pillow() -> float:
        return len(photos) / await loop.seconds(photos)

    async def pooled() -> float:
        started = time.perf_counter()
        await asyncio.gather(*(pool.render(photo, ladder, limits) for photo in photos))
        return len(photos) / (time.perf_counter() - started)

    floors, values = await rounds.in_turn(pillow, pooled, warm_up=False)
    rounds.report(Figure("render processes alone", "images/s", PILLOW, values, floors, Aim("at least", 1.0)))
