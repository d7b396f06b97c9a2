"""Messages between the render pool and its worker processes: a length prefix, a JSON header, then raw bytes.

A worker reads hostile images, so the parent does not trust its answers. The format is JSON and not pickle, because
unpickling runs code. The parent checks every field of an answer and computes the hashes itself.
"""

import base64
import hashlib
import json
import re
import struct
from dataclasses import asdict
from typing import Any

from processor.rendering.color import ICC_IGNORED
from processor.rendering.decode import FLATTENED
from processor.rendering.render import Part, RenderedVariant, Rendering, RenderLimits
from processor.rendering.sandbox import ALL, Protection
from processor.rendering.variant_file import size_of
from shared.contract.events import FAILURE_REASONS
from shared.contract.ladder import Ladder, Rung
from shared.contract.untrusted_json import read_json
from shared.errors import ImageRejected

PREFIX = struct.Struct(">II")
"""Length of the header and length of the body, in bytes."""
READY_SIZE = 1
"""Bytes that a worker writes once, when it is ready. They contain its protections."""
MAX_HEADER = 1 << 20
"""Maximum length of a header in bytes. A correct worker never writes a longer one."""
MAX_DETAIL = 1000
"""Maximum length of the text of a rejection, in characters. The texts of this software have at most 300."""
_VARIANT_BASE = 64 * 1024
_VARIANT_PER_PIXEL = 6
"""Maximum number of bytes of a variant for each decoded pixel. Noise with alpha at quality 100 takes 3.9."""
_NOTES = {FLATTENED, ICC_IGNORED}
_COLOR = re.compile(r"#[0-9a-f]{6}")
_THUMBHASH_BYTES = range(5, 26)
"""Possible lengths of a ThumbHash in bytes: 5 for a single colour without detail, 25 with alpha and full detail."""


class BadAnswerError(Exception):
    """A worker's answer violates this protocol. The pool must replace the process."""


def ready(protections: Protection) -> bytes:
    """The message that a worker writes when it is ready."""
    return bytes((protections,))


def parse_ready(message: bytes) -> Protection:
    """The protections that a worker reports. Raises BadAnswerError."""
    if len(message) != READY_SIZE or message[0] > ALL:
        raise BadAnswerError(f"not a report of readiness: {message!r}")
    return Protection(message[0])


def max_body(ladder: Ladder, limits: RenderLimits, pixels: int | None = None) -> int:
    """Maximum length in bytes of all variants of one image.

    `pixels` is the number of decoded pixels. If it is None, the maximum of the limits is used.
    """
    most = max(limits.max_pixels, limits.max_animation_pixels)
    decoded = most if pixels is None else min(pixels, most)
    return len(ladder.names) * (_VARIANT_BASE + _VARIANT_PER_PIXEL * decoded)


def request_header(ladder: Ladder, limits: RenderLimits, size: int, part: Part = Part.WHOLE) -> bytes:
    """Prefix and header of a request. The body, an image of `size` bytes, must follow."""
    return _with_prefix({"ladder": ladder.model_dump(mode="json"), "limits": asdict(limits), "part": part}, size)


def parse_request(header: bytes) -> tuple[Ladder, RenderLimits, Part]:
    """Ladder, limits and part of a request."""
    fields = json.loads(header)
    return Ladder.model_validate(fields["ladder"]), RenderLimits(**fields["limits"]), Part(fields["part"])


def rendered_answer(rendering: Rendering) -> list[bytes]:
    """The answer in parts, to be written one after the other. The bytes of the variants are not copied."""
    fields = {
        "kind": "rendered",
        "width": rendering.width,
        "height": rendering.height,
        "thumbhash": rendering.thumbhash,
        "dominant_color": rendering.dominant_color,
        "notes": rendering.notes,
        "variants": [
            {"name": v.name, "size": len(v.data), "width": v.width, "height": v.height} for v in rendering.variants
        ],
    }
    bodies = [variant.data for variant in rendering.variants]
    return [_with_prefix(fields, sum(map(len, bodies))), *bodies]


def rejected_answer(error: ImageRejected) -> list[bytes]:
    """The answer that the image was rejected."""
    return [_with_prefix({"kind": "rejected", "reason": error.reason, "detail": error.detail}, 0)]


def failed_answer(traceback: str) -> list[bytes]:
    """The answer that the renderer raised an unexpected error."""
    return [_with_prefix({"kind": "failed", "traceback": traceback[-10_000:]}, 0)]


def parse_answer(
    header: bytes, body: bytes, ladder: Ladder, limits: RenderLimits, part: Part = Part.WHOLE
) -> Rendering:
    """Parse and check the answer to a request with this ladder, these limits and this part.

    Raises ImageRejected if the worker rejected the image, RuntimeError with the worker's traceback if it had an
    unexpected error, and BadAnswerError if the answer is not one of a correct worker.
    """
    try:
        fields: dict[str, Any] = read_json(header)
        match fields["kind"]:
            case "rendered":
                return _parse_rendering(fields, body, ladder, limits, part)
            case "rejected":
                rejection: Exception = _parse_rejection(fields)
            case "failed":
                rejection = RuntimeError(f"the renderer failed unexpectedly:\n{fields['traceback']}")
            case kind:
                raise ValueError(f"an answer of kind {kind!r}")
    except (KeyError, TypeError, ValueError, AttributeError, ImageRejected) as error:
        raise BadAnswerError(f"{type(error).__name__}: {error}") from error
    raise rejection


def _parse_rejection(fields: dict[str, Any]) -> ImageRejected:
    reason, detail = fields["reason"], fields["detail"]
    if reason not in FAILURE_REASONS or not isinstance(detail, str):
        raise ValueError(f"no reason for a rejection: {str(reason)[:100]!r}")
    return ImageRejected(reason, detail[:MAX_DETAIL])


def _parse_rendering(
    fields: dict[str, Any], body: bytes, ladder: Ladder, limits: RenderLimits, part: Part
) -> Rendering:
    width, height = _size(fields, limits)
    rungs = part.rungs(ladder, width)
    variants = []
    position = 0
    for rung, variant in zip(rungs, fields["variants"], strict=True):
        end = position + _whole(variant["size"], len(body) - position)
        variants.append(_parse_variant(rung, variant, body[position:end], limits))
        position = end
    if position != len(body):
        raise ValueError("the variants are shorter than the answer")
    if any(variant.width != rung.width_for(width) for rung, variant in zip(rungs, variants, strict=True)):
        raise ValueError("a variant's width is not that of the ladder")
    return Rendering(
        width=width,
        height=height,
        variants=tuple(variants),
        thumbhash=_thumbhash(fields["thumbhash"]),
        dominant_color=_color(fields["dominant_color"]),
        notes=_notes(fields["notes"]),
    )


def _parse_variant(rung: Rung, fields: dict[str, Any], data: bytes, limits: RenderLimits) -> RenderedVariant:
    """Parse a variant. Its bytes must be a file of the rung's type that has the size that the worker states."""
    if fields["name"] != rung.name:
        raise ValueError(f"a variant {str(fields['name'])[:100]!r} where the ladder has {rung.name!r}")
    size = _size(fields, limits)
    if size_of(data, rung.content_type, max_pixels=limits.max_pixels, max_side=limits.max_side) != size:
        raise ValueError(f"the variant {rung.name} is not of {size[0]} x {size[1]} pixels")
    return RenderedVariant(rung.name, data, *size, hashlib.sha256(data).hexdigest(), rung.content_type)


def _size(fields: dict[str, Any], limits: RenderLimits) -> tuple[int, int]:
    width, height = (_whole(fields[side], limits.max_side) for side in ("width", "height"))
    if not 0 < width * height <= limits.max_pixels:
        raise ValueError(f"{width} x {height} pixels")
    return width, height


def _whole(value: object, most: int) -> int:
    if type(value) is not int or not 0 <= value <= most:
        raise ValueError(f"not a number from 0 to {most}: {str(value)[:100]}")
    return value


def _thumbhash(value: str) -> str:
    if len(base64.b64decode(value, validate=True)) not in _THUMBHASH_BYTES:
        raise ValueError("not a ThumbHash")
    return value


def _color(value: str) -> str:
    if not _COLOR.fullmatch(value):
        raise ValueError("not a colour")
    return value


def _notes(values: list[str]) -> tuple[str, ...]:
    if not set(values) <= _NOTES or len(set(values)) != len(values):
        raise ValueError("unknown notes")
    return tuple(values)


def _with_prefix(fields: dict[str, Any], body_size: int) -> bytes:
    header = json.dumps(fields).encode()
    return PREFIX.pack(len(header), body_size) + header
