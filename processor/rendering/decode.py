"""Decodes a file, after its headers were checked, to upright sRGB bitmaps: one bitmap for each frame."""

import struct
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from io import BytesIO

from PIL import Image, UnidentifiedImageError

from processor.rendering.color import ICC_IGNORED, to_srgb
from shared.contract.image_header import ImageInfo, png_chunks
from shared.errors import ImageRejected

FLATTENED = "animation_flattened"
"""Note: the animation has too many frames or pixels, so only its first frame is rendered."""

MAX_PROFILE_BYTES = 4 * 1024 * 1024
"""Maximum size of an ICC profile of a PNG file after decompression."""
MAX_SCANS = 500
"""Maximum number of scans of a progressive JPEG. A scan can have a few bytes, and each costs a pass over all pixels."""

_FORMATS = {"image/jpeg": "JPEG", "image/png": "PNG", "image/webp": "WEBP"}
_UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
_PNG_STILL = frozenset({b"IHDR", b"PLTE", b"tRNS", b"IDAT", b"IEND"})
_PNG_ANIMATION = frozenset({b"acTL", b"fcTL", b"fdAT"})
_GREY_STEPS = {2: 85, 4: 17}
"""Factor from the levels of a grey PNG with 2 or 4 bits to levels of 8 bits."""


@dataclass
class Picture:
    """Decoded frames: upright, sRGB, RGB or RGBA with straight alpha, all of the same size.

    `durations` are in milliseconds, one for each frame. `loop` is the number of repetitions; 0 means endless. A still
    image has one frame.
    """

    frames: list[Image.Image]
    durations: tuple[float, ...]
    loop: int
    notes: tuple[str, ...]


def frames_shown(info: ImageInfo, *, max_frames: int, max_animation_pixels: int) -> int:
    """Number of frames that `decode` decodes: all frames, or 1 for an animation with too many frames or pixels."""
    pixels = info.frames * info.width * info.height
    return info.frames if info.frames <= max_frames and pixels <= max_animation_pixels else 1


def decode(data: bytes, info: ImageInfo, *, max_frames: int, max_animation_pixels: int) -> Picture:
    """Decode a file; `info` are its headers. Of an animation with too many frames or pixels only the first is decoded.

    Raises ImageRejected with reason `truncated`, `corrupt` or `undecodable`, and MemoryError.
    """
    frames = frames_shown(info, max_frames=max_frames, max_animation_pixels=max_animation_pixels)
    notes = (FLATTENED,) if frames < info.frames else ()
    if info.content_type == "image/jpeg" and data.count(b"\xff\xda") > MAX_SCANS:
        raise ImageRejected("corrupt", f"The JPEG file has more than {MAX_SCANS} scans.")
    try:
        picture = _decode(data, info, frames)
    except (ImageRejected, MemoryError):
        raise
    except Exception as error:  # Hostile bytes can make a decoder raise any exception. The cause is always the file.
        raise _rejection(error) from error
    picture.notes = (*notes, *picture.notes)
    return picture


def _rejection(error: Exception) -> ImageRejected:
    # The text of UnidentifiedImageError contains a memory address, but a repeated answer must be the same.
    detail = (
        "unknown content" if isinstance(error, UnidentifiedImageError) else str(error)[:200] or type(error).__name__
    )
    reason = "truncated" if "truncated" in detail else "undecodable"
    return ImageRejected(reason, f"The decoder could not read the picture: {detail}.")


def _decode(data: bytes, info: ImageInfo, frames: int) -> Picture:
    notes: tuple[str, ...] = ()
    profile: bytes | None = None
    if info.content_type == "image/png":
        profile, notes = _png_profile(data)
        data = _plain_png(data, animated=frames > 1 or info.has_default_image)
    elif info.frames > 1:
        data = announce_alpha(data)
    image = Image.open(BytesIO(data), formats=(_FORMATS[info.content_type],))
    if image.size != info.stored_size:
        raise ImageRejected("corrupt", f"The header has the size {info.stored_size}, but the image {image.size}.")
    if info.content_type != "image/png":
        profile = image.info.get("icc_profile")
    _scale_transparent_grey(image, data, info)
    # Viewers that support animations do not show the default image of an APNG: it is not a frame.
    first = 1 if info.has_default_image else 0
    if frames == 1:
        image.seek(first)
        image.load()
        bitmap, color_notes = to_srgb(image, profile)
        return Picture([_upright(bitmap, info)], (0,), 0, (*notes, *color_notes))
    return _decode_animation(
        image, range(first, first + frames), notes, lambda frame: _finish_frame(frame, profile, info)
    )


def _finish_frame(frame: Image.Image, profile: bytes | None, info: ImageInfo) -> tuple[Image.Image, tuple[str, ...]]:
    # A copy, because seeking to the next frame overwrites the decoder's bitmap.
    bitmap, notes = to_srgb(frame.copy(), profile)
    return _upright(bitmap, info), notes


def _decode_animation(
    image: Image.Image,
    frames: range,
    notes: tuple[str, ...],
    finish: Callable[[Image.Image], tuple[Image.Image, tuple[str, ...]]],
) -> Picture:
    bitmaps: list[Image.Image] = []
    durations: list[float] = []
    color_notes: tuple[str, ...] = ()
    for index in frames:
        image.seek(index)
        image.load()
        bitmap, color_notes = finish(image)
        bitmaps.append(bitmap)
        durations.append(float(image.info.get("duration", 0)))
    if len({bitmap.mode for bitmap in bitmaps}) > 1:
        bitmaps = [bitmap.convert("RGBA") for bitmap in bitmaps]
    return Picture(bitmaps, tuple(durations), int(image.info.get("loop", 0)), (*notes, *color_notes))


def _upright(image: Image.Image, info: ImageInfo) -> Image.Image:
    return image.transpose(_UPRIGHT[info.orientation]) if info.orientation in _UPRIGHT else image


def announce_alpha(animation: bytes) -> bytes:
    """Set the alpha flag of an animated WebP file; returns the changed file.

    libwebp does not set the flag if all frames are opaque but smaller than the canvas. libwebp then decodes the
    uncovered area as black, but browsers show it as transparent. With the flag both agree.
    """
    flags = animation[20] | 0x10
    return b"".join((animation[:20], bytes((flags,)), animation[21:]))


def _scale_transparent_grey(image: Image.Image, data: bytes, info: ImageInfo) -> None:
    """Scale the transparency key of a PNG to 8 bits, like the samples. Pillow keeps it in the bit depth of the file."""
    key = image.info.get("transparency")
    if info.content_type != "image/png" or key is None:
        return
    depth, color = data[24], data[25]
    if color == 0 and depth in _GREY_STEPS:
        image.info["transparency"] = key * _GREY_STEPS[depth]
    elif color == 2 and depth == 16:
        image.info["transparency"] = tuple(sample >> 8 for sample in key)


def _plain_png(data: bytes, *, animated: bool) -> bytes:
    """Remove all chunks without pixels: text, profiles and EXIF can be decompression bombs, or invalid."""
    kept = _PNG_STILL | _PNG_ANIMATION if animated else _PNG_STILL
    chunks = png_chunks(data)
    if all(kind in kept for kind, _, _ in chunks):
        return data
    view = memoryview(data)
    return b"".join(
        (view[:8], *(view[start - 8 : start + length + 4] for kind, start, length in chunks if kind in kept))
    )


def _png_profile(data: bytes) -> tuple[bytes | None, tuple[str, ...]]:
    """The decompressed ICC profile, if it has at most MAX_PROFILE_BYTES, and notes."""
    for kind, start, length in png_chunks(data):
        if kind == b"iCCP":
            # The chunk has a name, a NUL byte, the compression method (0), and a zlib stream.
            _, _, packed = data[start : start + length].partition(b"\0")
            inflater = zlib.decompressobj()
            try:
                profile = inflater.decompress(packed[1:], MAX_PROFILE_BYTES)
            except (zlib.error, struct.error):
                return None, (ICC_IGNORED,)
            return (profile, ()) if inflater.eof else (None, (ICC_IGNORED,))
    return None, ()
