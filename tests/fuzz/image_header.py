"""The parser of image headers, on any bytes.

1. Only ImageRejected leaves it, with a reason of the contract.
2. What it accepts is within the limits.
3. If Pillow decodes the whole file, its size in pixels is the one that the parser found.
4. The renderer's decoder either rejects the file with a reason of the contract, or returns frames of that size.
"""

import struct
import warnings
import zlib
from collections.abc import Iterator
from io import BytesIO
from random import Random

from PIL import Image

from processor.rendering.decode import decode
from shared.contract.events import FAILURE_REASONS
from shared.contract.image_header import ImageInfo, inspect
from shared.contract.keys import EXTENSIONS
from shared.errors import ImageRejected
from tests.support import images

MAX_PIXELS = 4096
"""Small, because each accepted file is decoded twice."""
MAX_SIDE = 1024
MAX_FRAMES = 4
FORMATS = {"image/jpeg": "JPEG", "image/png": "PNG", "image/webp": "WEBP"}


def check(data: bytes) -> None:
    """Raise if the property does not hold for a file of these bytes."""
    try:
        info = inspect(data, max_pixels=MAX_PIXELS, max_side=MAX_SIDE)
    except ImageRejected as error:
        assert error.reason in FAILURE_REASONS, error.reason
        return
    assert info.extension == EXTENSIONS[info.content_type]
    assert 1 <= info.width <= MAX_SIDE
    assert 1 <= info.height <= MAX_SIDE
    assert info.width * info.height <= MAX_PIXELS
    assert info.frames >= 1
    assert 1 <= info.orientation <= 8
    _compare_with_pillow(data, info)
    _compare_with_renderer(data, info)


def _compare_with_pillow(data: bytes, info: ImageInfo) -> None:
    Image.MAX_IMAGE_PIXELS = MAX_PIXELS * 16
    warnings.simplefilter("ignore")
    warnings.simplefilter("error", Image.DecompressionBombWarning)
    try:
        image = Image.open(BytesIO(data), formats=[FORMATS[info.content_type]])
        image.load()
    except Exception:
        # The decoder's own checks go further than the headers. The renderer then rejects the file.
        return
    assert image.size == info.stored_size, (image.size, info)


def _compare_with_renderer(data: bytes, info: ImageInfo) -> None:
    try:
        picture = decode(data, info, max_frames=MAX_FRAMES, max_animation_pixels=MAX_FRAMES * MAX_PIXELS)
    except ImageRejected as error:
        assert error.reason in FAILURE_REASONS, error.reason
        return
    assert len(picture.frames) in (1, info.frames)
    assert len(picture.durations) == len(picture.frames) <= MAX_FRAMES
    for frame in picture.frames:
        assert frame.size == (info.width, info.height), (frame.size, info)
        assert frame.mode in ("RGB", "RGBA"), frame.mode


def mutate(data: bytes, chance: Random) -> bytes:
    """Make the checksums of a PNG and the size of a WebP file valid again, after other bytes were changed."""
    if data.startswith(images.PNG_SIGNATURE):
        return _with_checksums(data)
    if data.startswith(b"RIFF"):
        return data[:4] + struct.pack("<I", max(0, len(data) - 8)) + data[8:]
    if data.startswith(b"\xff\xd8") and chance.random() < 0.5:
        return data + b"\xff\xd9"
    return data


def _with_checksums(png: bytes) -> bytes:
    parts, position = [png[:8]], 8
    while position + 12 <= len(png):
        length = int.from_bytes(png[position : position + 4])
        if position + 12 + length > len(png):
            break
        kind, payload = png[position + 4 : position + 8], png[position + 8 : position + 8 + length]
        parts.append(struct.pack(">I", length) + kind + payload + struct.pack(">I", zlib.crc32(kind + payload)))
        position += 12 + length
    return b"".join((*parts, png[position:]))


def seeds() -> Iterator[bytes]:
    """Small files of each format, with the structures that the parser reads."""
    small = images.quadrants(8, 6)
    yield from (images.encode(small, kind, exif=images.exif(6)) for kind in FORMATS.values())
    yield images.encode(small, "JPEG", progressive=True)
    yield images.encode(small.convert("L"), "JPEG")
    yield images.encode(small.convert("CMYK"), "JPEG")
    yield images.encode(small.convert("P", palette=Image.Palette.ADAPTIVE, colors=4), "PNG", transparency=0)
    yield images.encode(small, "WEBP", lossless=True)
    yield images.encode(small, "WEBP", icc_profile=images.srgb())
    yield images.animation("WEBP", size=(20, 20))
    yield images.apng([(1, 2, 3), (4, 5, 6)])
    yield images.apng([(1, 2, 3), (4, 5, 6)], default=(7, 8, 9))
    yield images.interlaced_png()
    yield images.grey16_png()
    yield from (images.with_chunk(images.encode(small, "PNG"), text) for text in images.orientation_texts(8).values())
    yield from (make()[:200] for make in images.FOREIGN.values())
