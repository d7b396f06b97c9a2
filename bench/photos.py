"""Photos to measure with: those of a directory, or generated ones that are as smooth and as detailed as photos."""

import io
import random
from pathlib import Path

from PIL import Image

from shared.errors import ConfigurationError
from shared.settings import MIB

SUFFIXES = {".jpg", ".jpeg", ".png", ".webp"}
MAX_BYTES = 5 * MIB
"""The largest upload that the gateway accepts by default."""
ONE_MEGAPIXEL = (1160, 870)
SIDES = (4000, 3264, 2816, 2816, 2304, 2304, 2000, 2000, 1632, 1632, 1160, 1160)
"""Widths of the generated photos, 4:3: 12 photos of 1 to 12 megapixels, 51 together. The largest come first, so that
no process is idle while another one renders the last large photo."""


def photos(directory: Path | None) -> list[bytes]:
    """The photos of the directory, without those over 5 MiB, or the generated ones."""
    if directory is None:
        return [photo(width, width * 3 // 4, seed) for seed, width in enumerate(SIDES)]
    return sorted((file.read_bytes() for file in photo_files(directory)), key=len, reverse=True)


def photo_files(directory: Path) -> list[Path]:
    """The photos of a directory that the gateway accepts. Raises ConfigurationError if there is none."""
    files = sorted(file for file in directory.iterdir() if file.suffix.lower() in SUFFIXES)
    found = [file for file in files if file.stat().st_size <= MAX_BYTES]
    if not found:
        raise ConfigurationError(f"{directory} has no {', '.join(sorted(SUFFIXES))} of at most {MAX_BYTES // MIB} MiB")
    return found


def photo(width: int, height: int, seed: int, quality: int = 88) -> bytes:
    """A JPEG with structure at every scale: noise of three sizes, each of which is scaled up to the whole picture."""
    rng = random.Random(seed)
    picture = Image.new("RGB", (width, height))
    for divisor, weight in ((160, 1.0), (32, 0.35), (8, 0.15)):
        picture = Image.blend(picture, _noise(width, height, divisor, rng), weight)
    return _jpeg(picture, quality)


def _noise(width: int, height: int, divisor: int, rng: random.Random) -> Image.Image:
    size = (max(1, width // divisor), max(1, height // divisor))
    noise = Image.frombytes("RGB", size, rng.randbytes(size[0] * size[1] * 3))
    return noise.resize((width, height), Image.Resampling.BICUBIC)


def _jpeg(picture: Image.Image, quality: int) -> bytes:
    buffer = io.BytesIO()
    picture.save(buffer, "JPEG", quality=quality)
    return buffer.getvalue()


def one_megapixel(seed: int) -> bytes:
    """A JPEG of about a megapixel."""
    return photo(*ONE_MEGAPIXEL, seed)


def jpeg_of_size(size: int) -> bytes:
    """A JPEG of at least this many bytes, and of a few more."""
    width, data = 320, b""
    while len(data) < size:
        width += 16
        data = photo(width, width * 3 // 4, 0)
    return data


def tiny(seed: int) -> bytes:
    """A JPEG of a few hundred bytes, whose rendering takes a few milliseconds."""
    return _jpeg(_noise(32, 24, 4, random.Random(seed)), 70)
