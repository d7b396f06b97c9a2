"""The floor of rendering: a loop over photos with Pillow alone, in as many processes as the processor has workers."""

import asyncio
import io
import multiprocessing
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from multiprocessing.pool import Pool

from PIL import Image, ImageOps

from shared.contract.ladder import Ladder

LADDER = Ladder()


def render(data: bytes) -> int:
    """What a few lines of Pillow do: open, turn, full size, each rung from the next larger. Returns bytes written."""
    image = ImageOps.exif_transpose(Image.open(io.BytesIO(data)))
    image = image.convert("RGBA" if image.has_transparency_data else "RGB")
    width, height = image.size
    written = _save(image, LADDER.full_quality)
    for rung in LADDER.rungs:
        new_width = rung.width_for(width)
        image = image.resize((new_width, max(1, round(height * new_width / width))), Image.Resampling.LANCZOS)
        written += _save(image, rung.quality)
    return written


def _save(image: Image.Image, quality: int) -> int:
    buffer = io.BytesIO()
    image.save(buffer, "WEBP", quality=quality, method=LADDER.method)
    return buffer.tell()


class PillowLoop:
    """Processes that render photos and keep nothing."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool

    async def seconds(self, photos: Sequence[bytes]) -> float:
        """Seconds to render all photos."""
        return await asyncio.to_thread(self._run, photos)

    def _run(self, photos: Sequence[bytes]) -> float:
        started = time.perf_counter()
        for _ in self._pool.imap_unordered(render, photos, chunksize=1):
            pass
        return time.perf_counter() - started


@contextmanager
def pillow_loop(workers: int) -> Iterator[PillowLoop]:
    """A loop in this many processes, which end with the block."""
    with multiprocessing.get_context("spawn").Pool(workers) as pool:
        yield PillowLoop(pool)
