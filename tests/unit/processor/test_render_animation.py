"""Animations stay animated, with their timing, transparency and colours, or become their first frame with a note."""

import struct

import pytest
from PIL import Image

from processor.rendering.decode import FLATTENED
from processor.rendering.render import RenderLimits
from tests.support import images
from tests.unit.processor.test_render import P3, expected_srgb, frame_count, near, pixel, run, variant


@pytest.mark.parametrize("kind", ["WEBP", "PNG"])
def test_animations_stay_animated_in_every_variant(kind: str) -> None:
    rendering = run(images.animation(kind))
    assert rendering.notes == ()
    for item in rendering.variants:
        shown = images.decode(item.data)
        assert (frame_count(shown), shown.info["loop"]) == (3, 2)
        for index, color in enumerate(images.FRAMES):
            shown.seek(index)
            shown.load()
            assert shown.info["duration"] == images.DURATIONS[index]
            assert near(pixel(shown, 0.5, 0.5), (*color, 255), 25)
            assert pixel(shown, 0, 0)[3] == 0


def test_apng_disposal_is_composited() -> None:
    """Frames that cover only a part are completed by the frame before, as its disposal says."""
    red, green = (Image.new("RGBA", (32, 32), color) for color in ((200, 0, 0, 255), (0, 200, 0, 255)))
    second = red.copy()
    second.paste(green.crop((0, 0, 8, 8)), (4, 4))
    shown = variant(run(images.encode(red, "PNG", save_all=True, append_images=[second], duration=100)))
    shown.seek(1)
    assert near(pixel(shown, 0.2, 0.2), (0, 200, 0), 40)
    assert near(pixel(shown, 0.8, 0.8), (200, 0, 0), 25)


def test_default_image_is_not_a_frame() -> None:
    default = images.solid((9, 9, 9), size=(64, 48))
    frames = [images.solid(color, size=(64, 48)) for color in images.FRAMES]
    data = images.encode(default, "PNG", save_all=True, default_image=True, append_images=frames, duration=100)
    shown = variant(run(data))
    assert frame_count(shown) == 3
    assert near(pixel(shown, 0.5, 0.5), images.FRAMES[0], 25)


@pytest.mark.parametrize("count", [1, 3])
def test_frames_and_not_the_default_image_are_shown(count: int) -> None:
    shown = variant(run(images.apng(images.FRAMES[:count], default=(9, 9, 9))))
    assert frame_count(shown) == count
    assert near(pixel(shown, 0.5, 0.5)[:3], images.FRAMES[0], 25)


def test_animation_with_a_default_image_over_its_budget_becomes_its_first_frame() -> None:
    limits = RenderLimits(max_pixels=64_000_000, max_side=16_383, max_frames=2, max_animation_pixels=64_000_000)
    rendering = run(images.apng(images.FRAMES, default=(9, 9, 9)), limits=limits)
    assert rendering.notes == (FLATTENED,)
    assert near(pixel(variant(rendering), 0.5, 0.5)[:3], images.FRAMES[0], 25)


@pytest.mark.parametrize("kind", ["WEBP", "PNG"])
@pytest.mark.parametrize(("frames", "pixels"), [(2, 64_000_000), (120, 64 * 48 * 3 - 1)])
def test_animation_over_its_budget_becomes_its_first_frame(kind: str, frames: int, pixels: int) -> None:
    limits = RenderLimits(max_pixels=64_000_000, max_side=16_383, max_frames=frames, max_animation_pixels=pixels)
    rendering = run(images.animation(kind), limits=limits)
    assert rendering.notes == (FLATTENED,)
    for item in rendering.variants:
        assert frame_count(images.decode(item.data)) == 1
    assert near(pixel(variant(rendering), 0.5, 0.5), (*images.FRAMES[0], 255), 25)


def test_animation_exactly_at_its_budget_stays_animated() -> None:
    limits = RenderLimits(max_pixels=64 * 48, max_side=64, max_frames=3, max_animation_pixels=64 * 48 * 3)
    assert run(images.animation("WEBP"), limits=limits).notes == ()


def test_animation_is_turned_and_converted() -> None:
    data = images.animation("WEBP", exif=images.exif(6), icc_profile=images.display_p3(), lossless=True)
    shown = variant(run(data))
    assert (shown.size, frame_count(shown)) == ((48, 64), 3)
    assert near(pixel(shown, 0.5, 0.5), (*expected_srgb(images.FRAMES[0], P3, 2.2), 255), 25)


def test_long_delays_and_many_loops_fit_webp() -> None:
    frames = [images.solid(color) for color in images.FRAMES]
    file = images.encode(frames[0], "PNG", save_all=True, append_images=frames[1:], duration=100, loop=0)
    control = file.find(b"acTL") + 4
    file = file[: control - 8] + images.chunk(b"acTL", struct.pack(">II", 3, 1 << 30)) + file[control + 12 :]
    first = file.find(b"fcTL") + 4
    slow = file[first : first + 20] + struct.pack(">HH", 65_535, 1) + file[first + 24 : first + 26]
    shown = variant(run(file[: first - 8] + images.chunk(b"fcTL", slow) + file[first + 30 :]))
    assert frame_count(shown) == 3
    assert shown.info["loop"] == 65_535
    assert shown.info["duration"] == (1 << 24) - 1


def test_metadata_of_animations_is_stripped() -> None:
    data = images.animation("WEBP", exif=images.exif(1, gps=True), icc_profile=images.display_p3())
    for item in run(data).variants:
        assert not any(kind in item.data for kind in (b"EXIF", b"XMP ", b"ICCP", b"Secret"))
