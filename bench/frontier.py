"""The frontier of ladders: what CPU time buys in bytes and similarity, by WebP method and quality.

`python -m bench.frontier PHOTOS` renders each photo with each candidate in turn, as a render worker does. Time is CPU
time, so that other work on the machine matters little. Similarity (SSIM, of the brightness) compares each variant with
the pixels of the scaled original before they are encoded. The result is `frontier.json` and a plot for
docs/performance.md, which has the table.
"""

import io
import json
import statistics
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any, Final

import numpy as np
import numpy.typing as npt
import typer
from PIL import Image
from rich.console import Console
from rich.table import Table
from skimage.metrics import structural_similarity

from bench.machine import Watch
from bench.photos import photo_files
from bench.plots import draw_frontier
from bench.report import RESULTS, commit, rounded
from bench.stack import run
from ops.terminal.output import result_console
from processor.rendering.decode import decode
from processor.rendering.render import Rendering, RenderLimits, render
from shared.contract.image_header import inspect
from shared.contract.ladder import PRESETS, Ladder
from shared.settings import Settings

QUALITY_STEPS: Final[dict[int, Sequence[int]]] = {
    0: (0, 2, 4), 1: (0, 2, 4), 2: (0, 2, 4), 3: (0, 2, 4), 4: (0,), 5: (0,), 6: (0,),
}  # fmt: skip
"""By WebP method: what is added to the qualities of the default ladder. A lower method needs more for the same SSIM."""
WHITE = "white"

Pixels = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Candidate:
    """A ladder to measure, with its name in tables."""

    name: str
    ladder: Ladder


@dataclass(frozen=True)
class Measured:
    """One photo with one candidate: CPU time of the whole rendering; bytes and SSIM of each variant by its name."""

    cpu_seconds: float
    sizes: Mapping[str, int]
    similarity: Mapping[str, float]


def candidates() -> list[Candidate]:
    """The default ladder with each method and with higher qualities."""
    return [_candidate(method, step) for method, steps in QUALITY_STEPS.items() for step in steps]


def _candidate(method: int, step: int) -> Candidate:
    default = Ladder()
    rungs = [rung.model_dump() | {"quality": rung.quality + step} for rung in default.rungs]
    ladder = Ladder.model_validate(
        {"full_quality": default.full_quality + step, "method": method, "rungs": rungs},
    )
    return Candidate(f"method {method}" + (f", quality +{step}" if step else ""), ladder)


def measure(data: bytes, ladders: Sequence[Ladder], rounds: int) -> list[Measured]:
    """Render one photo with each ladder in turn, in each round. Times are medians over the rounds."""
    limits, reference = _limits(), References(data)
    seconds: list[list[float]] = [[] for _ in ladders]
    found: list[Rendering] = []
    for _ in range(rounds):
        found.clear()
        for ladder, times in zip(ladders, seconds, strict=True):
            started = time.process_time()
            found.append(render(data, ladder, limits))
            times.append(time.process_time() - started)
    return [
        Measured(
            statistics.median(times),
            {variant.name: len(variant.data) for variant in rendering.variants},
            {variant.name: reference.similarity(variant.data) for variant in rendering.variants},
        )
        for times, rendering in zip(seconds, found, strict=True)
    ]


def _limits() -> RenderLimits:
    settings = Settings()
    return RenderLimits(
        max_pixels=settings.max_pixels, max_side=settings.max_side, max_frames=1,
        max_animation_pixels=settings.max_animation_pixels,
    )  # fmt: skip


class References:
    """The pixels of an original at the sizes of its variants, before they are encoded."""

    def __init__(self, data: bytes) -> None:
        limits = _limits()
        info = inspect(data, max_pixels=limits.max_pixels, max_side=limits.max_side)
        picture = decode(data, info, max_frames=1, max_animation_pixels=limits.max_animation_pixels)
        # Variants are scaled with premultiplied alpha. The pixels of an opaque picture stay as they are.
        frame = picture.frames[0]
        self._smallest = frame.convert("RGBa") if frame.mode == "RGBA" else frame
        self._pixels: dict[tuple[int, int], Pixels] = {frame.size: _brightness(frame)}

    def similarity(self, variant: bytes) -> float:
        """SSIM of a variant; 1 is equal. Call it first with the largest variant, then with smaller ones."""
        image = Image.open(io.BytesIO(variant))
        if image.size not in self._pixels:
            self._smallest = self._smallest.resize(image.size, Image.Resampling.LANCZOS)
            self._pixels[image.size] = _brightness(self._smallest)
        # By default the window has seven pixels a side.
        found = structural_similarity(  # type: ignore[no-untyped-call]
            self._pixels[image.size], _brightness(image), data_range=255
        )
        return float(found)


def _brightness(image: Image.Image) -> Pixels:
    """The luma of each pixel (ITU-R BT.601), on white where the picture is transparent."""
    if image.mode in ("RGBa", "RGBA"):
        straight = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, WHITE), straight)
    return np.asarray(image.convert("L"), dtype=np.float32)


def document(photos: Mapping[str, Sequence[Measured]], tried: Sequence[Candidate]) -> list[dict[str, Any]]:
    """One entry for each candidate: means over the photos, and each photo.

    `rate` is images per CPU second, `bytes` are those of all variants; both are relative to the default ladder, `rate`
    as a ratio of sums and `bytes` as the mean of the ratios of the photos. `ssim` is the mean of the photos by variant.
    """
    default = [candidate.ladder for candidate in tried].index(Ladder())
    presets = {ladder.digest: name for name, ladder in PRESETS.items()}
    entries = []
    for number, candidate in enumerate(tried):
        own = [each[number] for each in photos.values()]
        base = [each[default] for each in photos.values()]
        entries.append(
            {
                "name": candidate.name,
                "preset": presets.get(candidate.ladder.digest),
                "method": candidate.ladder.method,
                "cpu_seconds": statistics.mean(each.cpu_seconds for each in own),
                "rate": sum(each.cpu_seconds for each in base) / sum(each.cpu_seconds for each in own),
                "bytes": statistics.mean(
                    sum(one.sizes.values()) / sum(other.sizes.values()) for one, other in zip(own, base, strict=True)
                ),
                "ssim": {
                    name: statistics.mean(each.similarity[name] for each in own) for name in candidate.ladder.names
                },
                "photos": {
                    name: {
                        "cpu_seconds": each[number].cpu_seconds,
                        "sizes": dict(each[number].sizes),
                        "ssim": dict(each[number].similarity),
                    }
                    for name, each in photos.items()
                },
            }
        )
    return entries


def table(entries: Sequence[Mapping[str, Any]]) -> Table:
    """The means of each candidate, for people."""
    names = list(entries[0]["ssim"])
    shown = Table("ladder", "rate", "bytes", *(f"SSIM {name}" for name in names), highlight=False)
    for entry in entries:
        name = entry["name"] + (f" ({entry['preset']})" if entry["preset"] else "")
        shown.add_row(name, f"{entry['rate']:.2f}", f"{entry['bytes'] - 1:+.1%}", *_similarities(entry))
    return shown


def _similarities(entry: Mapping[str, Any]) -> Iterator[str]:
    return (f"{value:.4f}" for value in entry["ssim"].values())


def main(
    photo_directory: Annotated[Path, typer.Argument(exists=True, file_okay=False, help="Directory with photos.")],
    rounds: Annotated[int, typer.Option("--rounds", min=1, help="How often each photo is rendered.")] = 3,
    output: Annotated[Path, typer.Option(exists=True, file_okay=False, help="Directory of the results.")] = RESULTS,
) -> None:
    """Measure time, bytes and SSIM of the ladders, and write frontier.json and frontier.png."""
    console = Console(stderr=True, highlight=False)
    tried, watch, photos = candidates(), Watch(), {}
    for file in photo_files(photo_directory):
        console.print(file.name)
        photos[file.stem] = measure(file.read_bytes(), [candidate.ladder for candidate in tried], rounds)
    entries = document(photos, tried)
    result_console().print(table(entries))
    found = {
        "measured_at": datetime.now(UTC).isoformat(timespec="seconds"),
        "commit": commit(),
        "rounds": rounds,
        "machine": watch.conditions().document(),
        "candidates": entries,
    }
    file, plot = output / "frontier.json", output / "frontier.png"
    file.write_text(json.dumps(rounded(found), indent=1) + "\n")
    draw_frontier(entries, plot)
    for written in (file, plot):
        console.print(f"Written: {written}")


if __name__ == "__main__":
    app = typer.Typer(add_completion=False)
    app.command()(main)
    run(app)
