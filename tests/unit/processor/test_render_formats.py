"""Variants in other formats than WebP: JPEG for link previews, and AVIF."""

import io
from dataclasses import replace
from typing import Any

import pytest
from PIL import Image, ImageChops

from processor.rendering.render import RenderedVariant, RenderLimits, render
from processor.rendering.variant_file import size_of
from processor.rendering.wire import BadAnswerError, parse_answer, rendered_answer
from shared.contract.ladder import Ladder, Rung
from shared.errors import ImageRejected
from tests.support import images
from tests.unit.processor.test_pool import pool_of

LIMITS = RenderLimits(max_pixels=64_000_000, max_side=16_383, max_frames=120, max_animation_pixels=64_000_000)
LADDER = Ladder(method=0, avif_quality=60, share_quality=85)
PHOTO = images.encode(images.photo(160, 100).resize((1600, 1000)), "JPEG")
NO_LIMITS = {"max_pixels": 10**9, "max_side": 16_383}


def rendered(data: bytes, ladder: Ladder = LADDER) -> dict[str, RenderedVariant]:
    return {variant.name: variant for variant in render(data, ladder, LIMITS).variants}


def opened(variant: RenderedVariant) -> Image.Image:
    return Image.open(io.BytesIO(variant.data))


def png(image: Image.Image) -> bytes:
    return images.encode(image, "PNG")


def test_each_variant_has_its_format_and_size() -> None:
    found = rendered(PHOTO)
    sizes = {name: (opened(variant).format, *opened(variant).size) for name, variant in found.items()}
    assert sizes == {
        "full": ("WEBP", 1600, 1000),
        "large": ("WEBP", 1200, 750),
        "medium": ("WEBP", 640, 400),
        "small": ("WEBP", 320, 200),
        "large_avif": ("AVIF", 1200, 750),
        "medium_avif": ("AVIF", 640, 400),
        "small_avif": ("AVIF", 320, 200),
        "share": ("JPEG", 1200, 750),
    }
    for variant in found.values():
        assert size_of(variant.data, variant.content_type, **NO_LIMITS) == (variant.width, variant.height)


def animation(size: tuple[int, int]) -> bytes:
    """Three frames with transparency: the same photo, moved."""
    photo = images.photo(160, 100).resize(size).convert("RGBA")
    photo.paste((0, 0, 0, 0), (0, 0, size[0] // 3, size[1] // 3))
    frames = [ImageChops.offset(photo, 20 * number) for number in range(3)]
    file = io.BytesIO()
    frames[0].save(file, "WEBP", save_all=True, append_images=frames[1:], duration=100, quality=70, method=0)
    return file.getvalue()


BESIDE: dict[str, dict[str, Any]] = {
    "share": {"share_quality": 85},
    "both": {"avif_quality": 60, "share_quality": 85},
    "rungs between and below": {
        "rungs": (
            *Ladder().rungs,
            Rung(name="mail", width=1100, fraction=0.9, quality=70, format="jpeg"),
            Rung(name="tiny", width=50, fraction=0.5, quality=40, format="avif"),
        )
    },
}
WIDE_PHOTO = images.encode(images.photo(160, 100).resize((2000, 500)), "JPEG")
"""Wider than 1,707 pixels: `share` is between `large` and `medium`."""


@pytest.mark.parametrize("name", BESIDE)
@pytest.mark.parametrize("data", [WIDE_PHOTO, animation((1800, 100))], ids=["photo", "animation"])
def test_the_webp_variants_and_the_placeholder_do_not_depend_on_other_formats(data: bytes, name: str) -> None:
    plain = render(data, Ladder(method=0), LIMITS)
    beside = render(data, Ladder.model_validate({"method": 0, **BESIDE[name]}), LIMITS)
    assert tuple(each for each in beside.variants if each.content_type == "image/webp") == plain.variants
    assert replace(beside, variants=plain.variants) == plain
    assert len(beside.variants) > len(plain.variants)


@pytest.mark.parametrize("size", [(1, 1), (900, 700), (1200, 10), (3, 5000), (16_383, 2)])
def test_share_is_not_larger_than_the_original(size: tuple[int, int]) -> None:
    width, height = opened(rendered(png(Image.new("RGB", size, "red")))["share"]).size
    assert width == min(1200, size[0])
    assert height <= size[1]


def test_a_jpeg_is_flattened_on_white() -> None:
    image = Image.new("RGBA", (200, 100), (255, 0, 0, 128))
    image.paste((0, 0, 0, 0), (0, 0, 100, 100))
    jpeg = opened(rendered(png(image))["share"])
    assert jpeg.mode == "RGB"
    for place, expected in (((50, 50), (255, 255, 255)), ((150, 50), (255, 127, 127))):
        pixel = jpeg.getpixel(place)
        assert isinstance(pixel, tuple)
        assert all(abs(is_ - should) <= 6 for is_, should in zip(pixel, expected, strict=True))


def test_an_avif_keeps_transparency_and_has_no_metadata() -> None:
    exif = Image.Exif()
    exif[0x010F] = "a camera"
    file = io.BytesIO()
    Image.new("RGBA", (64, 64), (0, 200, 0, 77)).save(file, "PNG", exif=exif)
    found = rendered(file.getvalue())
    avif = opened(found["large_avif"])
    pixel = avif.convert("RGBA").getpixel((10, 10))
    assert isinstance(pixel, tuple)
    assert abs(pixel[3] - 77) <= 4
    for name in ("large_avif", "share"):
        assert b"a camera" not in found[name].data
        assert not opened(found[name]).getexif()


def test_an_animation_stays_one_in_avif_and_is_its_first_frame_as_jpeg() -> None:
    frames = [Image.new("RGB", (80, 60), color) for color in ("red", "lime", "blue")]
    file = io.BytesIO()
    frames[0].save(file, "WEBP", save_all=True, append_images=frames[1:], duration=[100, 250, 400], lossless=True)
    found = rendered(file.getvalue())
    assert getattr(opened(found["large_avif"]), "n_frames", 1) == 3
    share = opened(found["share"])
    red, green, blue = share.convert("RGB").getpixel((5, 5))  # type: ignore[misc]
    assert red > 240
    assert max(green, blue) < 20
    assert getattr(share, "n_frames", 1) == 1


def test_a_rung_may_name_its_format() -> None:
    rungs = (
        Rung(name="mail", width=600, fraction=1, quality=70, format="jpeg"),
        Rung(name="tiny", width=64, fraction=0.5, quality=40, format="avif"),
    )
    found = rendered(PHOTO, Ladder(method=0, rungs=rungs, avif_quality=50))
    assert {name: (opened(each).format, each.width) for name, each in found.items()} == {
        "full": ("WEBP", 1600),
        "mail": ("JPEG", 600),
        "tiny": ("AVIF", 64),
    }


async def test_a_worker_writes_every_format_inside_its_sandbox() -> None:
    """The encoder of AVIF would start threads, which the sandbox denies."""
    async with pool_of(1) as pool:
        assert await pool.render(PHOTO, LADDER, LIMITS) == render(PHOTO, LADDER, LIMITS)


def test_a_worker_cannot_return_another_format() -> None:
    """A JPEG in place of an AVIF would get the name and the type of an AVIF."""
    found = render(PHOTO, LADDER, LIMITS)
    rungs = [rung.model_copy(update={"name": f"{rung.name}_avif", "format": "jpeg"}) for rung in LADDER.rungs]
    forged = Ladder(method=0, rungs=(*LADDER.rungs, *rungs), share_quality=85)
    other = render(PHOTO, forged, LIMITS)
    for rendering, accepted in ((found, True), (other, False)):
        prefix, *bodies = rendered_answer(rendering)
        if accepted:
            assert parse_answer(prefix[8:], b"".join(bodies), LADDER, LIMITS) == found
        else:
            with pytest.raises(BadAnswerError):
                parse_answer(prefix[8:], b"".join(bodies), LADDER, LIMITS)


def test_every_cut_of_an_avif_is_refused() -> None:
    data = rendered(png(Image.new("RGBA", (30, 20), (1, 2, 3, 4))))["small_avif"].data
    assert size_of(data, "image/avif", **NO_LIMITS) == (7, 5)
    for end in range(len(data)):
        with pytest.raises(ImageRejected):
            size_of(data[:end], "image/avif", **NO_LIMITS)


@pytest.mark.parametrize("limits", [{"max_pixels": 34, "max_side": 100}, {"max_pixels": 1000, "max_side": 6}])
def test_an_avif_beyond_the_limits_is_refused(limits: dict[str, int]) -> None:
    data = rendered(png(Image.new("RGB", (30, 20))))["small_avif"].data
    with pytest.raises(ImageRejected):
        size_of(data, "image/avif", **limits)


def test_bytes_of_another_type_are_refused() -> None:
    for content_type in ("image/webp", "image/avif"):
        with pytest.raises(ImageRejected):
            size_of(PHOTO, content_type, **NO_LIMITS)
