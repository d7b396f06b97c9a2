"""Renders an original to its WebP variants. A pure function that runs in a worker process.

With the same library versions it returns the same bytes. Each variant is scaled from the next larger one, so that its
cost depends on its own size. Scaling uses premultiplied alpha, so that the colour of transparent pixels does not
spread.
"""

import hashlib
from dataclasses import dataclass
from io import BytesIO

from PIL import Image

from processor.rendering.decode import Picture, announce_alpha, decode, frames_shown
from processor.rendering.placeholder import dominant_color, thumbhash, thumbnail
from shared.contract.image_header import inspect
from shared.contract.ladder import FULL, Ladder
from shared.errors import ImageRejected

_MAX_DURATION = 2**24 - 1
"""Maximum duration in milliseconds of a frame of an animated WebP (24 bits). APNG allows 65,535 seconds."""
_MAX_LOOP = 2**16 - 1
_OUT_OF_MEMORY = ("encoding error 1", "encoding error 2")
"""Pillow's texts for libwebp's two codes of a failed allocation. The image is not the cause, so it is not rejected."""


@dataclass(frozen=True)
class RenderLimits:
    """Limits of decoding. `max_pixels` is for one frame; `max_animation_pixels` is for frames times area."""

    max_pixels: int
    max_side: int
    max_frames: int
    max_animation_pixels: int


@dataclass(frozen=True)
class RenderedVariant:
    """One variant: its WebP bytes, its size in pixels, and the SHA-256 of the bytes in hex."""

    name: str
    data: bytes
    width: int
    height: int
    sha256: str


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


def render(data: bytes, ladder: Ladder, limits: RenderLimits) -> Rendering:
    """Decode `data` (PNG, JPEG or WebP) and encode each variant of the ladder as WebP without metadata.

    Raises ImageRejected with a reason of `shared.contract.image_header.inspect` (before it decodes), with a reason of
    `processor.rendering.decode.decode`, or with `encoder_failed`. Raises MemoryError, which does not mean that the
    image is invalid.
    """
    info = inspect(data, max_pixels=limits.max_pixels, max_side=limits.max_side)
    picture = decode(data, info, max_frames=limits.max_frames, max_animation_pixels=limits.max_animation_pixels)
    encoded = {FULL: _encode(FULL, picture, ladder.full_quality, ladder.method)}
    _premultiply(picture)
    for rung in sorted(ladder.rungs, key=lambda rung: rung.width_for(info.width), reverse=True):
        _shrink(picture, _scaled(info.width, info.height, rung.width_for(info.width)))
        encoded[rung.name] = _encode(rung.name, picture, rung.quality, ladder.method)
    thumb = thumbnail(_straight(picture.frames[0]))
    return Rendering(
        width=info.width,
        height=info.height,
        variants=tuple(encoded[name] for name in ladder.names),
        thumbhash=thumbhash(thumb),
        dominant_color=dominant_color(thumb),
        notes=tuple(dict.fromkeys(picture.notes)),
    )


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
        if frame.size != size:
            picture.frames[index] = frame.resize(size, Image.Resampling.LANCZOS)


def _straight(frame: Image.Image) -> Image.Image:
    return frame.convert("RGBA") if frame.mode == "RGBa" else frame


def _encode(name: str, picture: Picture, quality: int, method: int) -> RenderedVariant:
    frames = [_straight(frame) for frame in picture.frames]
    # The metadata is empty on purpose. The pixels are sRGB and need no profile, and EXIF may contain GPS positions.
    options = {"quality": quality, "method": method, "icc_profile": b"", "exif": b"", "xmp": b""}
    if len(frames) > 1:
        options |= {
            "save_all": True,
            "append_images": frames[1:],
            "duration": [min(duration, _MAX_DURATION) for duration in picture.durations],
            "loop": min(picture.loop, _MAX_LOOP),
            "background": (0, 0, 0, 0),
        }
    buffer = BytesIO()
    try:
        frames[0].save(buffer, "WEBP", **options)
    except (OSError, ValueError, RuntimeError) as error:
        if str(error).startswith(_OUT_OF_MEMORY):
            raise MemoryError(f"writing the {name} variant") from error
        raise ImageRejected("encoder_failed", f"The {name} variant could not be written as WebP: {error}.") from error
    data = buffer.getvalue()
    if len(frames) > 1 and frames[0].mode == "RGBA" and data[12:16] == b"VP8X":
        data = announce_alpha(data)
    return RenderedVariant(name, data, frames[0].width, frames[0].height, hashlib.sha256(data).hexdigest())
