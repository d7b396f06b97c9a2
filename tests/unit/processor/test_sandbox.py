"""The sandbox of the render workers: a decoder that was taken over gets nothing, and the service goes on."""

import signal
import subprocess
import sys
from dataclasses import replace
from typing import Any

import pytest
from PIL import Image

from processor.rendering.pool import RenderPool
from processor.rendering.render import RenderedVariant, Rendering, render
from processor.rendering.sandbox import ALL, Protection, denied, limit_image
from processor.rendering.wire import BadAnswerError, max_body, parse_answer, parse_ready, rendered_answer
from shared.contract.ladder import Ladder
from shared.errors import ImageRejected
from tests.support import images
from tests.support.processes.attacking_worker import ATTACKS, WRITTEN
from tests.unit.processor.test_pool import EASY, LADDER, LIMITS

ATTACKING = "tests.support.processes.attacking_worker"
linux = pytest.mark.skipif(sys.platform != "linux", reason="Landlock and seccomp are parts of Linux")


@pytest.fixture(scope="module")
def honest() -> Rendering:
    return render(EASY, LADDER, LIMITS)


def answer(rendering: Rendering, **changed: Any) -> Rendering:
    """What the parent makes of this rendering in a worker's answer."""
    head, *bodies = rendered_answer(replace(rendering, **changed))
    return parse_answer(head[8:], b"".join(bodies), LADDER, LIMITS)


@linux
async def test_every_protection_holds_on_this_kernel() -> None:
    pool = RenderPool(2, 60)
    await pool.start()
    try:
        assert pool.protections == ALL
    finally:
        await pool.close(0)


@linux
async def test_each_attack_fails_and_the_next_image_is_rendered() -> None:
    pool = RenderPool(1, 60, ATTACKING)
    await pool.start()
    reasons = {}
    try:
        for data in ATTACKS:
            with pytest.raises(ImageRejected) as caught:
                await pool.render(data, LADDER, LIMITS)
            reasons[data] = caught.value.reason
            assert (await pool.render(EASY, LADDER, LIMITS)).width == 64
    finally:
        await pool.close(0)
    assert reasons == dict.fromkeys(ATTACKS, "crashed_decoder")
    assert not WRITTEN.exists()


@linux
def test_cpu_time_is_limited_per_image_and_not_per_life() -> None:
    spinning = [sys.executable, "-c", "while True: pass"]
    with subprocess.Popen(spinning) as process:
        limit_image(process.pid, 1, LIMITS)
        limit_image(process.pid, 2, LIMITS)
        assert process.wait(60) == -signal.SIGXCPU


def test_a_refusal_is_found_behind_the_errors_that_wrap_it() -> None:
    wrapped = ImageRejected("corrupt", "broken")
    wrapped.__cause__ = OSError("a library's own")
    wrapped.__cause__.__context__ = PermissionError(1, "Operation not permitted")
    assert denied(wrapped)
    assert not denied(ImageRejected("corrupt", "broken"))
    assert not denied(None)


def test_an_honest_answer_is_accepted_with_hashes_of_the_parents_own(honest: Rendering) -> None:
    lying = tuple(replace(variant, sha256="0" * 64) for variant in honest.variants)
    assert answer(honest, variants=lying) == honest


def forged_variant(honest: Rendering, **changed: Any) -> tuple[RenderedVariant, ...]:
    return (replace(honest.variants[0], **changed), *honest.variants[1:])


@pytest.mark.parametrize(
    "changed",
    [
        {"name": "../../escaped"},
        {"name": "small"},
        {"data": b"<html>"},
        {"data": EASY},
        {"width": 65},
        {"width": 0},
        {"height": -1},
        {"width": 10**9},
        {"width": 64.0},
        {"width": True},
    ],
    ids=str,
)
def test_a_forged_variant_is_not_accepted(honest: Rendering, changed: dict[str, Any]) -> None:
    with pytest.raises(BadAnswerError):
        answer(honest, variants=forged_variant(honest, **changed))


@pytest.mark.parametrize(
    "changed",
    [
        {"width": 10**6},
        {"width": 128},
        {"height": "48"},
        {"thumbhash": "<script>"},
        {"thumbhash": ""},
        {"thumbhash": "AAAA" * 100},
        {"dominant_color": "red"},
        {"dominant_color": "#00000g"},
        {"notes": ("made_up",)},
        {"notes": ("animation_flattened", "animation_flattened")},
        {"variants": ()},
    ],
    ids=str,
)
def test_a_forged_answer_is_not_accepted(honest: Rendering, changed: dict[str, Any]) -> None:
    with pytest.raises(BadAnswerError):
        answer(honest, **changed)


def test_a_missing_or_additional_variant_is_not_accepted(honest: Rendering) -> None:
    for variants in (honest.variants[:1], (*honest.variants, honest.variants[1])):
        with pytest.raises(BadAnswerError):
            answer(honest, variants=variants)


@pytest.mark.parametrize(
    "header",
    [
        b'{"kind": "rejected", "reason": "made_up", "detail": "x"}',
        b'{"kind": "rejected", "reason": ["corrupt"], "detail": "x"}',
        b'{"kind": "rejected", "reason": "corrupt", "detail": 1}',
    ],
)
def test_a_forged_rejection_is_not_accepted(header: bytes) -> None:
    with pytest.raises(BadAnswerError):
        parse_answer(header, b"", LADDER, LIMITS)


def test_the_words_of_a_rejection_are_bounded() -> None:
    header = b'{"kind": "rejected", "reason": "corrupt", "detail": "' + b"x" * 10_000 + b'"}'
    with pytest.raises(ImageRejected) as caught:
        parse_answer(header, b"", LADDER, LIMITS)
    assert len(caught.value.detail) == 1000


@pytest.mark.parametrize("message", [b"", b"\x08", b"\xff", b"\x01\x01"])
def test_a_forged_report_of_readiness_is_not_accepted(message: bytes) -> None:
    with pytest.raises(BadAnswerError):
        parse_ready(message)


def test_a_report_of_readiness_names_the_protections() -> None:
    assert parse_ready(b"\x05") == Protection.LANDLOCK | Protection.RLIMITS


def test_the_body_of_an_answer_is_bounded_by_the_pixels_of_its_image() -> None:
    noise = images.encode(Image.effect_noise((300, 300), 250), "PNG")
    ladder = Ladder(full_quality=100, method=0)
    size = sum(len(variant.data) for variant in render(noise, ladder, LIMITS).variants)
    assert size < max_body(ladder, LIMITS, 300 * 300)
    assert max_body(ladder, LIMITS, 300 * 300) < max_body(ladder, LIMITS) == max_body(ladder, LIMITS, 10**12)
