"""What JPEG and AVIF cost for each image beside the four WebP sizes: CPU time of rendering, and bytes.

    python -m bench.formats [PHOTOS] [--rounds 3]

Renders each photo of the directory, or generated ones, as a render process does: with the default ladder, with `share`
(JPEG), with AVIF beside each rung, and with both. Each time is the smallest of the rounds. No engine is needed.
"""

import argparse
import os
import statistics
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from bench.photos import photos
from bench.stack import run
from processor.rendering.render import RenderLimits, render
from shared.contract.ladder import Ladder
from shared.settings import Settings

SHARE_QUALITY = 85
AVIF_QUALITY = 60
LADDERS = {
    "four WebP": Ladder(),
    "with share": Ladder(share_quality=SHARE_QUALITY),
    "with AVIF": Ladder(avif_quality=AVIF_QUALITY),
    "with both": Ladder(share_quality=SHARE_QUALITY, avif_quality=AVIF_QUALITY),
}


@dataclass(frozen=True)
class Cost:
    """CPU seconds of one photo, and the bytes of its variants by their type."""

    cpu: float
    sizes: dict[str, int]


def cost(photo: bytes, ladder: Ladder, limits: RenderLimits) -> Cost:
    """Render once. The CPU time is that of all threads of this process: the encoder of AVIF may have several."""
    started = time.process_time()
    rendering = render(photo, ladder, limits)
    cpu = time.process_time() - started
    sizes: dict[str, int] = {}
    for variant in rendering.variants:
        sizes[variant.content_type] = sizes.get(variant.content_type, 0) + len(variant.data)
    return Cost(cpu, sizes)


def measure(originals: Sequence[bytes], rounds: int) -> None:
    """Print one line for each ladder, the mean of all photos."""
    settings = Settings()
    limits = RenderLimits(
        max_pixels=settings.max_pixels, max_side=settings.max_side, max_frames=settings.max_frames,
        max_animation_pixels=settings.max_animation_pixels,
    )  # fmt: skip
    best: dict[str, list[Cost]] = {name: [] for name in LADDERS}
    for photo in originals:
        # In turn, so that a slow moment of the machine affects all ladders.
        tries = [{name: cost(photo, ladder, limits) for name, ladder in LADDERS.items()} for _ in range(rounds)]
        for name, costs in best.items():
            costs.append(min((each[name] for each in tries), key=lambda each: each.cpu))
    base = statistics.mean(each.cpu for each in best["four WebP"])
    for name, costs in best.items():
        cpu = statistics.mean(each.cpu for each in costs)
        sizes = (
            f"{content_type} {statistics.mean(each.sizes[content_type] for each in costs) / 1000:.1f} kB"
            for content_type in costs[0].sizes
        )
        print(
            f"{name}: {cpu * 1000:.0f} ms of CPU time ({(cpu - base) * 1000:+.0f} ms); {', '.join(sizes)}", flush=True
        )


def main() -> None:
    """Parse arguments and measure."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("photos", type=Path, nargs="?", help="directory of photos; without it they are generated")
    parser.add_argument("--rounds", type=int, default=3)
    given = parser.parse_args()
    originals = photos(given.photos)
    print(f"{len(originals)} photos, {sum(map(len, originals)) / 1e6:.1f} MB; load {os.getloadavg()[0]:.1f}")
    measure(originals, given.rounds)


if __name__ == "__main__":
    run(main)
