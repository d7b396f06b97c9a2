"""Messages between the render pool and its worker processes: a length prefix, a JSON header, then raw bytes.

JSON and not pickle, for a worker reads hostile images: who takes one over must not gain the processor by its answer.
"""

import json
import struct
from dataclasses import asdict
from typing import Any

from processor.rendering.render import RenderedVariant, Rendering, RenderLimits
from shared.contract.ladder import Ladder
from shared.contract.untrusted_json import read_json
from shared.errors import ImageRejected

PREFIX = struct.Struct(">II")
"""Bytes of the header, bytes of the body."""
READY = b"\x01"
"""What a worker writes once, when its libraries are loaded."""
MAX_HEADER = 1 << 20
"""A longer header cannot be an honest answer."""


class BadAnswerError(Exception):
    """A worker's answer is not of this protocol; its process is to be replaced."""


def request_header(ladder: Ladder, limits: RenderLimits, size: int) -> bytes:
    """Prefix and header of a request whose body, the image of `size` bytes, follows."""
    return _with_prefix({"ladder": ladder.model_dump(mode="json"), "limits": asdict(limits)}, size)


def parse_request(header: bytes) -> tuple[Ladder, RenderLimits]:
    """Ladder and limits of a request."""
    fields = json.loads(header)
    return Ladder.model_validate(fields["ladder"]), RenderLimits(**fields["limits"])


def rendered_answer(rendering: Rendering) -> list[bytes]:
    """The answer in parts, to be written one after the other; the variants' bytes are not copied."""
    fields = {
        "kind": "rendered",
        "width": rendering.width,
        "height": rendering.height,
        "thumbhash": rendering.thumbhash,
        "dominant_color": rendering.dominant_color,
        "notes": rendering.notes,
        "variants": [
            {"name": v.name, "size": len(v.data), "width": v.width, "height": v.height, "sha256": v.sha256}
            for v in rendering.variants
        ],
    }
    bodies = [variant.data for variant in rendering.variants]
    return [_with_prefix(fields, sum(map(len, bodies))), *bodies]


def rejected_answer(error: ImageRejected) -> list[bytes]:
    """The answer that the image was rejected."""
    return [_with_prefix({"kind": "rejected", "reason": error.reason, "detail": error.detail}, 0)]


def failed_answer(traceback: str) -> list[bytes]:
    """The answer that the renderer raised what it should not have."""
    return [_with_prefix({"kind": "failed", "traceback": traceback[-10_000:]}, 0)]


def parse_answer(header: bytes, body: bytes) -> Rendering:
    """The rendering in an answer.

    Raises ImageRejected as the worker did, RuntimeError with the worker's traceback for an exception nobody foresaw,
    and BadAnswerError where the answer makes no sense.
    """
    try:
        fields: dict[str, Any] = read_json(header)
        kind = fields["kind"]
        if kind == "rejected":
            raise ImageRejected(str(fields["reason"]), str(fields["detail"]))
        if kind == "failed":
            raise RuntimeError(f"the renderer failed unexpectedly:\n{fields['traceback']}")
        return _parse_rendering(fields, body)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise BadAnswerError(f"{type(error).__name__}: {error}") from error


def _parse_rendering(fields: dict[str, Any], body: bytes) -> Rendering:
    variants = []
    position = 0
    for variant in fields["variants"]:
        end = position + variant["size"]
        if not position <= end <= len(body):
            raise ValueError("the variants are longer than the answer")
        data = body[position:end]
        variants.append(RenderedVariant(variant["name"], data, variant["width"], variant["height"], variant["sha256"]))
        position = end
    if position != len(body):
        raise ValueError("the variants are shorter than the answer")
    return Rendering(
        width=fields["width"],
        height=fields["height"],
        variants=tuple(variants),
        thumbhash=fields["thumbhash"],
        dominant_color=fields["dominant_color"],
        notes=tuple(fields["notes"]),
    )


def _with_prefix(fields: dict[str, Any], body_size: int) -> bytes:
    header = json.dumps(fields).encode()
    return PREFIX.pack(len(header), body_size) + header
