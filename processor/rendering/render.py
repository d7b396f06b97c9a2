"""Renders an original to its variants. A pure function that runs in a worker process.

With the same library versions it returns the same bytes, except for an animated AVIF: the encoder writes the present
time into it. Each variant is scaled from the next larger WebP variant, so that its cost depends on its own size, and a
variant in another format does not change those in WebP. Scaling uses premultiplied alpha, so that the colour of
transparent pixels does not spread.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from io import BytesIO
from typing import Any

from PIL import Image

from processor.rendering.decode import Picture, announce_alpha, decode, frames_shown
from processor.rendering.placeholder import dominant_color, thumbhash, thumbnail
from shared.contract.image_header import inspect
from shared.contract.ladder import Ladder, Rung
from shared.errors import ImageRejected

_MAX_DURATION = 2**24 - 1
"""Maximum duration in milliseconds of a frame of an animated WebP (24 bits). APNG allows 65,535 seconds."""
_MAX_LOOP = 2**16 - 1
_OUT_OF_MEMORY = ("encoding error 1", "encoding error 2")
"""Pillow's texts for libwebp's two codes of a failed allocation. The image is not the cause, so it is not rejected."""
_AVIF_SPEED = 8
"""0 is slow, 10 is fast. For eight photos in three sizes, speed 8 took 0.3 s of one core for each photo, with 93 kB in
sum; speed 6 took 1.2 s for 86 kB, and speed 9 took 0.1 s for 98 kB."""


@dataclass(frozen=True)
class RenderLimits:
    """Limits of decoding. `max_pixels` is for one frame; `max_animation_pixels` is for frames times area."""

    max_pixels: int
    max_side: int
    max_frames: int
    max_animation_pixels: int


class Part(StrEnum):
    """The variants of an image that one process renders. Two idle processes render one image side by side."""

    WHOLE = "whole"
    FULL_SIZE = "full_size"
    SMALLER = "smaller"

    def rungs(self, ladder: Ladder, width: int) -> tuple[Rung, ...]:
        """The rungs of this part for an image of this width in pixels, in the order of the ladder."""
        if self is Part.WHOLE:
            return ladder.variants
        full_size = self is Part.FULL_SIZE
        return tuple(rung for rung in ladder.variants if _keeps_size(rung, width) == full_size)


@dataclass(frozen=True)
class RenderedVariant:
    """One variant: its bytes, its size in pixels, the SHA-256 of the bytes in hex, and the type of the file."""

    name: str
    data: bytes
    width: int
    height: int
    sha256: str
    content_type: str = "image/webp"


@dataclass(frozen=True)
class Rendering:
    """The result for one original: displayed size in pixels, variants in the order of the ladder, placeholder, notes.

    `thumbhash` is base64 and `dominant_color` is `#rrggbb`. Possible notes are `animation_flattened` and
    `icc_profile_ignored`.
    """

    width: int
    height: int
    variants: tuple[RenderedVariant, ...]
    thumbhash: str
    dominant_color: str
    notes: tuple[str, ...]


def decoded_pixels(data: bytes, limits: RenderLimits) -> int:
    """Number of pixels that `render` decodes, all frames together; 0 if it rejects the file before decoding."""
    try:
        info = inspect(data, max_pixels=limits.max_pixels, max_side=limits.max_side)
    except ImageRejected:
        return 0
    frames = frames_shown(info, max_frames=limits.max_frames, max_animation_pixels=limits.max_animation_pixels)
    return frames * info.width * info.height


def render(data: bytes, ladder: Ladder, limits: RenderLimits, part: Part = Part.WHOLE) -> Rendering:
    """Decode `data` (PNG, JPEG or WebP) and encode each variant of this part of the ladder without metadata.

    Raises ImageRejected with a reason of `shared.contract.image_header.inspect` (before it decodes), with a reason of
    `processor.rendering.decode.decode`, or with `encoder_failed`. Raises MemoryError, which does not mean that the
    image is invalid.
    """
    info = inspect(data, max_pixels=limits.max_pixels, max_side=limits.max_side)
    picture = decode(data, info, max_frames=limits.max_frames, max_animation_pixels=limits.max_animation_pixels)
    rungs = part.rungs(ladder, info.width)
    unscaled = [rung for rung in rungs if _keeps_size(rung, info.width)]
    encoded = {rung.name: _encode(rung, picture, ladder.method) for rung in unscaled}
    _premultiply(picture)
    scaled = (rung for rung in rungs if rung.name not in encoded)
    # Of one width WebP is first, so that the other formats need no scaling.
    for rung in sorted(scaled, key=lambda rung: (rung.width_for(info.width), rung.format == "webp"), reverse=True):
        size = _scaled(info.width, info.height, rung.width_for(info.width))
        if rung.format == "webp":
            _shrink(picture, size)
            encoded[rung.name] = _encode(rung, picture, ladder.method)
        else:
            encoded[rung.name] = _encode(rung, _smaller(picture, size, _frames_of(rung, picture)), ladder.method)
    thumb = thumbnail(_straight(picture.frames[0]))
    return Rendering(
        width=info.width,
        height=info.height,
        variants=tuple(encoded[rung.name] for rung in rungs),
        thumbhash=thumbhash(thumb),
        dominant_color=dominant_color(thumb),
        notes=tuple(dict.fromkeys(picture.notes)),
    )


def joined(ladder: Ladder, full_size: Rendering, smaller: Rendering) -> Rendering:
    """The rendering of the whole image from those of its two parts: the same as if one process had rendered it.

    Raises ValueError if the parts are not of the same picture.
    """
    common = (full_size.width, full_size.height, full_size.notes)
    if common != (smaller.width, smaller.height, smaller.notes):
        sizes = [f"{part.width} x {part.height}" for part in (full_size, smaller)]
        raise ValueError(f"the parts of one image differ: {sizes}")
    made = {variant.name: variant for variant in (*full_size.variants, *smaller.variants)}
    # The placeholder is made from the smallest bitmap, which only this part has.
    return replace(smaller, variants=tuple(made[name] for name in ladder.names))


def _keeps_size(rung: Rung, width: int) -> bool:
    """Whether the rung's variant is encoded without scaling from an original of this width."""
    return rung.fraction == 1 and rung.width >= width


def _scaled(width: int, height: int, new_width: int) -> tuple[int, int]:
    """Size in pixels at the new width with the same aspect ratio. The height is rounded and is at least 1."""
    return new_width, max(1, (height * new_width + width // 2) // width)


def _premultiply(picture: Picture) -> None:
    for index, frame in enumerate(picture.frames):
        if frame.mode == "RGBA":
            picture.frames[index] = frame.convert("RGBa")


def _shrink(picture: Picture, size: tuple[int, int]) -> None:
    """Scale the frames in place, one after the other. Each large bitmap is freed before the next frame is scaled."""
    for index, frame in enumerate(picture.frames):
        picture.frames[index] = _resized(frame, size)


def _smaller(picture: Picture, size: tuple[int, int], frames: Sequence[Image.Image]) -> Picture:
    """The picture with these frames, scaled. The larger ones stay as they are for the next WebP variant."""
    return replace(picture, frames=[_resized(frame, size) for frame in frames])


def _resized(frame: Image.Image, size: tuple[int, int]) -> Image.Image:
    return frame if frame.size == size else frame.resize(size, Image.Resampling.LANCZOS)


def _frames_of(rung: Rung, picture: Picture) -> Sequence[Image.Image]:
    """The frames that the rung's format can hold: a JPEG has the first one."""
    return picture.frames[:1] if rung.format == "jpeg" else picture.frames


def _straight(frame: Image.Image) -> Image.Image:
    return frame.convert("RGBA") if frame.mode == "RGBa" else frame


def _flattened(frame: Image.Image) -> Image.Image:
    """The frame on white, without an alpha channel."""
    if frame.mode == "RGBA":
        frame = Image.alpha_composite(Image.new("RGBA", frame.size, "white"), frame)
    return frame.convert("RGB")


def _encode(rung: Rung, picture: Picture, method: int) -> RenderedVariant:
    frames = [_straight(frame) for frame in _frames_of(rung, picture)]
    if rung.format == "jpeg":
        frames = [_flattened(frames[0])]
    # The metadata is empty on purpose. The pixels are sRGB and need no profile, and EXIF may contain GPS positions.
    options = {"quality": rung.quality, "icc_profile": b"", "exif": b"", "xmp": b"", "comment": b""}
    options |= _options(rung, picture, frames, method)
    buffer = BytesIO()
    try:
        frames[0].save(buffer, rung.format, **options)
    except (OSError, ValueError, RuntimeError) as error:
        if str(error).startswith(_OUT_OF_MEMORY) or "Out of memory" in str(error):
            raise MemoryError(f"writing the {rung.name} variant") from error
        detail = f"The {rung.name} variant could not be written as {rung.format}: {error}."
        raise ImageRejected("encoder_failed", detail) from error
    data = buffer.getvalue()
    if len(frames) > 1 and frames[0].mode == "RGBA" and data[12:16] == b"VP8X":
        data = announce_alpha(data)
    digest = hashlib.sha256(data).hexdigest()
    return RenderedVariant(rung.name, data, frames[0].width, frames[0].height, digest, rung.content_type)


def _options(rung: Rung, picture: Picture, frames: Sequence[Image.Image], method: int) -> dict[str, Any]:
    """Arguments of Pillow's encoder of the rung's format."""
    if rung.format == "jpeg":
        return {"optimize": True, "progressive": True}
    # One thread: a worker has one slot, and its sandbox lets it start no thread.
    options: dict[str, Any] = {"method": method} if rung.format == "webp" else {"speed": _AVIF_SPEED, "max_threads": 1}
    if len(frames) > 1:
        durations = [min(duration, _MAX_DURATION) for duration in picture.durations]
        options |= {
            "save_all": True,
            "append_images": frames[1:],
            # Pillow rounds the times of a WebP's frames, and accepts only whole milliseconds for AVIF.
            "duration": durations if rung.format == "webp" else list(map(round, durations)),
            "loop": min(picture.loop, _MAX_LOOP),
            "background": (0, 0, 0, 0),
        }
    return options
