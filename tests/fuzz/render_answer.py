"""The messages of a render worker to the pool, on any bytes.

An input is a message as a worker writes it: a prefix with two lengths, a JSON header, and the variants.

1. Only ImageRejected with a reason of the contract, RuntimeError and BadAnswerError leave the parser.
2. An accepted answer has exactly the variants of the ladder, within the limits of the request, each of them a file
   of the rung's format and of the size that it states, with the hash of its bytes.
3. An accepted answer, written again, is accepted again as the same answer.
"""

import hashlib
import json
from collections.abc import Iterator
from contextlib import suppress
from random import Random

from processor.rendering.render import Part, Rendering, RenderLimits, render
from processor.rendering.variant_file import size_of
from processor.rendering.wire import (
    MAX_DETAIL,
    MAX_HEADER,
    PREFIX,
    BadAnswerError,
    failed_answer,
    max_body,
    parse_answer,
    parse_ready,
    parse_request,
    rejected_answer,
    rendered_answer,
    request_header,
)
from shared.contract.events import FAILURE_REASONS
from shared.contract.ladder import Ladder, Rung
from shared.errors import ImageRejected
from tests.fuzz.json_mutation import mutated_json
from tests.support import images

LADDER = Ladder(
    method=0, rungs=(Rung(name="small", width=4, fraction=0.5, quality=50),), avif_quality=50, share_quality=50
)
LIMITS = RenderLimits(max_pixels=4096, max_side=256, max_frames=2, max_animation_pixels=8192)


def check(data: bytes) -> None:
    """Raise if the property does not hold for a message of these bytes."""
    with suppress(BadAnswerError):
        parse_ready(data)
    if len(data) < PREFIX.size:
        return
    header_size, body_size = PREFIX.unpack_from(data)
    header = data[PREFIX.size : PREFIX.size + header_size]
    body = data[PREFIX.size + header_size :]
    if header_size > MAX_HEADER or body_size > max_body(LADDER, LIMITS) or len(body) != body_size:
        # The pool reads no more than such a message announces, and refuses one that is too long.
        return
    for part in Part:
        _check_answer(header, body, part)


def _check_answer(header: bytes, body: bytes, part: Part) -> None:
    try:
        rendering = parse_answer(header, body, LADDER, LIMITS, part)
    except BadAnswerError:
        return
    except ImageRejected as error:
        assert error.reason in FAILURE_REASONS, error.reason
        assert len(error.detail) <= MAX_DETAIL
        return
    except RuntimeError as error:
        assert type(error) is RuntimeError, error
        assert str(error).startswith("the renderer failed unexpectedly"), error
        return
    _check_rendering(rendering, part)
    prefix, *bodies = rendered_answer(rendering)
    assert parse_answer(prefix[PREFIX.size :], b"".join(bodies), LADDER, LIMITS, part) == rendering


def _check_rendering(rendering: Rendering, part: Part) -> None:
    rungs = part.rungs(LADDER, rendering.width)
    assert tuple(variant.name for variant in rendering.variants) == tuple(rung.name for rung in rungs)
    assert 1 <= rendering.width <= LIMITS.max_side
    assert 1 <= rendering.height <= LIMITS.max_side
    for rung, variant in zip(rungs, rendering.variants, strict=True):
        assert variant.width == rung.width_for(rendering.width)
        assert variant.sha256 == hashlib.sha256(variant.data).hexdigest()
        size = size_of(variant.data, rung.content_type, max_pixels=LIMITS.max_pixels, max_side=LIMITS.max_side)
        assert (size, variant.content_type) == ((variant.width, variant.height), rung.content_type)


def mutate(data: bytes, chance: Random) -> bytes:
    """Change a value in the header, and make the lengths of the prefix valid again."""
    if len(data) < PREFIX.size:
        return data
    size = min(PREFIX.unpack_from(data)[0], len(data) - PREFIX.size)
    header, body = data[PREFIX.size : PREFIX.size + size], data[PREFIX.size + size :]
    header = mutated_json(header, chance)
    return PREFIX.pack(len(header), len(body)) + header + body


def seeds() -> Iterator[bytes]:
    """Answers of a correct worker, and a request, which has the same form."""
    file = images.encode(images.quadrants(8, 6), "PNG")
    header = request_header(LADDER, LIMITS, len(file))
    assert parse_request(header[PREFIX.size :]) == (LADDER, LIMITS, Part.WHOLE)
    yield header + file
    for part in Part:
        yield b"".join(rendered_answer(render(file, LADDER, LIMITS, part)))
    yield b"".join(rendered_answer(render(images.animation("PNG", 3, (20, 20)), LADDER, LIMITS)))
    yield b"".join(rejected_answer(ImageRejected("corrupt", "The file's structure contradicts itself.")))
    yield b"".join(failed_answer("Traceback (most recent call last):\n..."))
    yield PREFIX.pack(*(len(part) for part in (b"{}", b""))) + json.dumps({}).encode()
    yield b"\x00"
