"""Every kind of still becomes the right pixels: orientation, colour, depth, alpha, and no metadata."""

import base64
import hashlib
import struct
import zlib
from collections.abc import Callable

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image
from thash import thumb_hash_to_average_rgba

from processor.rendering.color import ICC_IGNORED, to_srgb
from processor.rendering.decode import MAX_SCANS
from processor.rendering.render import Rendering, RenderLimits, render
from shared.contract.events import FAILURE_REASONS
from shared.contract.ladder import Ladder, Rung
from shared.errors import ImageRejected
from tests.support import images

LIMITS = RenderLimits(max_pixels=64_000_000, max_side=16_383, max_frames=120, max_animation_pixels=64_000_000)
Color = tuple[int, ...]


def run(data: bytes, ladder: Ladder | None = None, limits: RenderLimits = LIMITS) -> Rendering:
    return render(data, ladder or Ladder(full_quality=95), limits)


def refusal(data: bytes, limits: RenderLimits = LIMITS) -> ImageRejected:
    with pytest.raises(ImageRejected) as caught:
        run(data, limits=limits)
    assert caught.value.reason in FAILURE_REASONS
    return caught.value


def variant(rendering: Rendering, name: str = "full") -> Image.Image:
    return images.decode(next(item.data for item in rendering.variants if item.name == name))


def pixel(image: Image.Image, x: float, y: float) -> Color:
    """The colour at a place given as shares of width and height."""
    value = image.getpixel((int(image.width * x), int(image.height * y)))
    assert isinstance(value, tuple)
    return value


def near(actual: Color, expected: Color, tolerance: int = 8) -> bool:
    return len(actual) == len(expected) and all(abs(a - b) <= tolerance for a, b in zip(actual, expected, strict=True))


def frame_count(image: Image.Image) -> int:
    return getattr(image, "n_frames", 1)


# The ladder


def test_variants_have_the_sizes_of_the_ladder() -> None:
    rendering = run(images.encode(images.photo(1600, 1067), "JPEG"), Ladder())
    sizes = [(item.name, item.width, item.height) for item in rendering.variants]
    assert sizes == [("full", 1600, 1067), ("large", 1200, 800), ("medium", 640, 427), ("small", 320, 213)]
    assert (rendering.width, rendering.height) == (1600, 1067)
    for item in rendering.variants:
        decoded = images.decode(item.data)
        assert (decoded.format, decoded.size) == ("WEBP", (item.width, item.height))
        assert item.sha256 == hashlib.sha256(item.data).hexdigest()
    assert rendering.notes == ()


def test_variants_are_in_the_order_of_their_rungs() -> None:
    small, large = (
        Rung(name=name, width=width, fraction=0.9, quality=80) for name, width in (("tiny", 8), ("big", 48))
    )
    rendering = run(images.encode(images.quadrants(), "PNG"), Ladder(rungs=(small, large)))
    assert [(item.name, item.width) for item in rendering.variants] == [("full", 64), ("tiny", 8), ("big", 48)]


def test_ladder_without_rungs_gives_the_full_variant_only() -> None:
    assert [item.name for item in run(images.encode(images.quadrants(), "PNG"), Ladder(rungs=())).variants] == ["full"]


@pytest.mark.parametrize("size", [(1, 1), (1, 500), (500, 1), (3, 2), (16_383, 1), (1, 16_383)])
def test_extreme_shapes_keep_at_least_one_pixel(size: tuple[int, int]) -> None:
    rendering = run(images.encode(Image.new("RGB", size, (10, 200, 30)), "PNG"))
    assert (rendering.width, rendering.height) == size
    for item in rendering.variants[1:]:
        assert 1 <= item.width < max(2, size[0])
        assert 1 <= item.height <= size[1]
        assert near(pixel(images.decode(item.data), 0, 0), (10, 200, 30))


def test_same_input_same_bytes() -> None:
    data = images.encode(images.photo(), "JPEG")
    assert run(data) == run(data)


# Orientation and metadata


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_orientation_is_applied(kind: str, orientation: int) -> None:
    stored = images.stored_for(images.quadrants(), orientation)
    quality = {"lossless": True} if kind == "WEBP" else {}
    rendering = run(images.encode(stored, kind, exif=images.exif(orientation), **quality))
    assert (rendering.width, rendering.height) == (64, 48)
    for item in rendering.variants[:2]:
        shown = images.decode(item.data)
        for name, color in images.QUADRANTS.items():
            corner = 0.25 if "left" in name else 0.75, 0.25 if "top" in name else 0.75
            assert near(pixel(shown, *corner), color, 25), (item.name, name)


@pytest.mark.parametrize("form", images.orientation_texts(1))
@pytest.mark.parametrize("orientation", range(1, 9))
def test_orientation_in_a_png_text_is_applied(form: str, orientation: int) -> None:
    stored = images.encode(images.stored_for(images.quadrants(), orientation), "PNG")
    rendering = run(images.with_chunk(stored, images.orientation_texts(orientation)[form]), Ladder(rungs=()))
    assert (rendering.width, rendering.height) == (64, 48)
    shown = variant(rendering)
    for name, color in images.QUADRANTS.items():
        corner = 0.25 if "left" in name else 0.75, 0.25 if "top" in name else 0.75
        assert near(pixel(shown, *corner), color, 25), name


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP"])
def test_metadata_is_stripped(kind: str) -> None:
    options: dict[str, object] = {"exif": images.exif(6, gps=True), "icc_profile": images.display_p3()}
    if kind != "PNG":
        options["xmp"] = b"<x:xmpmeta>Secret</x:xmpmeta>"
    data = images.encode(images.quadrants(), kind, **options)
    assert b"Secret" in data
    for item in run(data).variants:
        assert not {"exif", "xmp", "icc_profile"} & set(images.decode(item.data).info)
        assert not any(kind in item.data for kind in (b"EXIF", b"XMP ", b"ICCP", b"Secret"))


# Sample formats

GREY = (128, 128, 128)
SAMPLES: dict[str, tuple[Callable[[], bytes], Color]] = {
    "progressive jpeg": (lambda: images.encode(images.solid((200, 30, 30)), "JPEG", progressive=True), (200, 30, 30)),
    "grey jpeg": (lambda: images.encode(Image.new("L", (32, 24), 128), "JPEG"), GREY),
    "cmyk jpeg": (lambda: images.encode(images.solid((0, 255, 255, 0), "CMYK"), "JPEG"), (255, 0, 0)),
    "mpo": (
        lambda: images.encode(images.solid((9, 9, 200)), "MPO", save_all=True, append_images=[images.solid((0, 0, 0))]),
        (9, 9, 200),
    ),
    "1-bit png": (lambda: images.encode(Image.new("1", (32, 24), 1), "PNG"), (255, 255, 255)),
    "grey png": (lambda: images.encode(Image.new("L", (32, 24), 128), "PNG"), GREY),
    "4-bit grey png": (lambda: images.png(32, 8, 4, 0, b"\x88" * 128), (136, 136, 136)),
    "16-bit grey png": (lambda: images.png(32, 8, 16, 0, struct.pack(">H", 0x8080) * 256), GREY),
    "16-bit rgb png": (lambda: images.png(32, 8, 16, 2, struct.pack(">3H", 0xFFFF, 0x8080, 0) * 256), (255, 128, 0)),
    "palette png": (lambda: images.encode(images.solid((255, 0, 0)).convert("P"), "PNG"), (255, 0, 0)),
    "lossless webp": (lambda: images.encode(images.solid((1, 2, 250)), "WEBP", lossless=True), (1, 2, 250)),
    "opaque rgba png": (lambda: images.encode(images.solid((7, 150, 7, 255), "RGBA"), "PNG"), (7, 150, 7)),
    "grey with alpha": (lambda: images.encode(images.solid((128, 90), "LA"), "PNG"), (*GREY, 90)),
    "rgba png": (lambda: images.encode(images.solid((200, 30, 30, 90), "RGBA"), "PNG"), (200, 30, 30, 90)),
    "rgba webp": (
        lambda: images.encode(images.solid((200, 30, 30, 90), "RGBA"), "WEBP", lossless=True),
        (200, 30, 30, 90),
    ),
    "16-bit grey with alpha": (
        lambda: images.png(32, 8, 16, 4, struct.pack(">2H", 0x8080, 0x4040) * 256), (*GREY, 64),
    ),
    "16-bit rgba": (
        lambda: images.png(32, 8, 16, 6, struct.pack(">4H", 0xFFFF, 0x8080, 0, 0x4040) * 256), (255, 128, 0, 64),
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", SAMPLES)
def test_pixels_of_every_sample_format_are_right(name: str) -> None:
    make, expected = SAMPLES[name]
    rendering = run(make())
    for item in rendering.variants:
        shown = images.decode(item.data)
        assert shown.mode == ("RGBA" if len(expected) == 4 else "RGB")
        assert near(pixel(shown, 0.5, 0.5), expected), item.name
    assert rendering.notes == ()


def test_sixteen_bit_grey_is_scaled_not_clipped() -> None:
    shown = variant(run(images.grey16_png()))
    assert near(pixel(shown, 0.5, 0.2), (128, 128, 128))
    assert near(pixel(shown, 0.5, 0.8), (64, 64, 64))


def test_interlaced_png_is_decoded() -> None:
    shown = variant(run(images.interlaced_png()))
    assert near(pixel(shown, 0.0, 0.5), (255, 0, 0), 25)
    assert near(pixel(shown, 0.9, 0.5), (0, 0, 255), 25)


# Transparency: left half transparent, right half opaque

_TRANSPARENT_GREY = 0x1235
TRANSPARENT: dict[str, Callable[[], bytes]] = {
    "palette, one entry": lambda: images.png(
        32, 8, 8, 3, (b"\0" * 16 + b"\1" * 16) * 8,
        images.chunk(b"PLTE", bytes((0, 255, 0, 200, 30, 30))), images.chunk(b"tRNS", b"\0"),
    ),
    "palette, alpha list": lambda: images.png(
        32, 8, 8, 3, (b"\1" * 16 + b"\0" * 16) * 8,
        images.chunk(b"PLTE", bytes((200, 30, 30, 0, 255, 0))), images.chunk(b"tRNS", b"\xff\0"),
    ),
    "grey, 8 bits": lambda: images.png(
        32, 8, 8, 0, (b"\x05" * 16 + b"\x55" * 16) * 8, images.chunk(b"tRNS", b"\0\x05")
    ),
    "grey, 4 bits": lambda: images.png(
        32, 8, 4, 0, (b"\x55" * 8 + b"\xaa" * 8) * 8, images.chunk(b"tRNS", b"\0\x05")
    ),
    "grey, 2 bits": lambda: images.png(
        32, 8, 2, 0, (b"\x55" * 4 + b"\xaa" * 4) * 8, images.chunk(b"tRNS", b"\0\x01")
    ),
    "grey, 1 bit": lambda: images.png(
        32, 8, 1, 0, (b"\xff" * 2 + b"\0" * 2) * 8, images.chunk(b"tRNS", b"\0\x01")
    ),
    "grey, 16 bits": lambda: images.png(
        32, 8, 16, 0, (struct.pack(">H", _TRANSPARENT_GREY) * 16 + struct.pack(">H", _TRANSPARENT_GREY + 1) * 16) * 8,
        images.chunk(b"tRNS", struct.pack(">H", _TRANSPARENT_GREY)),
    ),
    "rgb, 8 bits": lambda: images.png(
        32, 8, 8, 2, (b"\x01\x02\x03" * 16 + b"\xc8\x1e\x1e" * 16) * 8, images.chunk(b"tRNS", b"\0\1\0\2\0\3")
    ),
    "rgb, 16 bits": lambda: images.png(
        32, 8, 16, 2, (b"\x01\x02\x03\x04\x05\x06" * 16 + b"\xc8\0\x1e\0\x1e\0" * 16) * 8,
        images.chunk(b"tRNS", b"\x01\x02\x03\x04\x05\x06"),
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", TRANSPARENT)
def test_transparency_keys_become_alpha(name: str) -> None:
    shown = variant(run(TRANSPARENT[name]()))
    assert shown.mode == "RGBA"
    assert pixel(shown, 0.2, 0.5)[3] == 0
    assert pixel(shown, 0.8, 0.5)[3] == 255


def test_color_does_not_bleed_out_of_transparent_pixels() -> None:
    image = Image.new("RGBA", (64, 64), (0, 255, 0, 0))
    image.paste((200, 30, 30, 255), (21, 0, 64, 64))
    small = variant(run(images.encode(image, "PNG")), "small")
    edge = [pixel(small, x / small.width, 0.5) for x in range(small.width)]
    assert any(0 < alpha < 255 for *_, alpha in edge)
    assert all(green < 80 for _, green, _, alpha in edge if alpha > 40)


# Colour


def expected_srgb(color: Color, primaries: tuple[tuple[float, ...], ...], gamma: float) -> Color:
    """sRGB of a colour of a matrix profile, worked out apart from any colour library (D50-adapted matrices)."""
    linear = [(value / 255) ** gamma for value in color]
    xyz = [sum(primaries[i][axis] * linear[i] for i in range(3)) for axis in range(3)]
    inverse = ((3.1339, -1.6169, -0.4906), (-0.9788, 1.9161, 0.0335), (0.0719, -0.2290, 1.4052))
    result = [max(0.0, min(1.0, sum(row[axis] * xyz[axis] for axis in range(3)))) for row in inverse]
    return tuple(round(255 * (12.92 * v if v <= 0.0031308 else 1.055 * v ** (1 / 2.4) - 0.055)) for v in result)


P3 = ((0.5151, 0.2412, -0.0011), (0.2920, 0.6922, 0.0419), (0.1571, 0.0666, 0.7841))
ADOBE = ((0.6097, 0.3111, 0.0195), (0.2053, 0.6257, 0.0609), (0.1492, 0.0632, 0.7446))


@pytest.mark.parametrize("color", [(200, 100, 50), (60, 170, 90), (60, 90, 160)])
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP"])
@pytest.mark.parametrize(("profile", "primaries"), [(images.display_p3, P3), (images.adobe_rgb, ADOBE)])
def test_wide_gamut_becomes_srgb(
    color: Color, kind: str, profile: Callable[[], bytes], primaries: tuple[tuple[float, ...], ...]
) -> None:
    options = {"lossless": True} if kind == "WEBP" else {"quality": 100} if kind == "JPEG" else {}
    data = images.encode(images.solid(color), kind, icc_profile=profile(), **options)
    expected = expected_srgb(color, primaries, 2.2)
    assert not near(color, expected, 8)
    assert near(pixel(variant(run(data)), 0.5, 0.5), expected)


def test_profile_leaves_alpha_alone() -> None:
    data = images.encode(images.solid((200, 100, 50, 77), "RGBA"), "PNG", icc_profile=images.display_p3())
    shown = pixel(variant(run(data)), 0.5, 0.5)
    assert near(shown, (*expected_srgb((200, 100, 50), P3, 2.2), 77))


def test_srgb_profile_changes_nothing() -> None:
    image = images.photo(64, 48)
    converted, notes = to_srgb(image, images.srgb())
    assert converted is image
    assert notes == ()


@pytest.mark.parametrize("mode", ["L", "LA"])
def test_grey_profile_is_converted(mode: str) -> None:
    image = images.solid((128, 99)[: len(mode)], mode) if mode == "LA" else Image.new("L", (32, 24), 128)
    shown = pixel(variant(run(images.encode(image, "PNG", icc_profile=images.grey_gamma(1.0)))), 0.5, 0.5)
    # Half of the light is 188 in sRGB.
    assert near(shown, (188, 188, 188, 99)[: 4 if mode == "LA" else 3])


@pytest.mark.parametrize("ink", range(4))
def test_press_profile_is_converted(ink: int) -> None:
    color = tuple(255 if index == ink else 0 for index in range(4))
    data = images.encode(images.solid(color, "CMYK"), "JPEG", quality=100, icc_profile=images.press())
    assert near(pixel(variant(run(data)), 0.5, 0.5), images.INKS[ink])


BROKEN_PROFILES: dict[str, Callable[[], bytes]] = {
    "garbage": lambda: b"not a profile" * 20,
    "cut": lambda: images.display_p3()[:200],
    "of another colour space": images.press,
}


@pytest.mark.parametrize("name", BROKEN_PROFILES)
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP"])
def test_broken_profile_is_ignored_with_a_note(kind: str, name: str) -> None:
    rendering = run(images.encode(images.solid((200, 30, 30)), kind, icc_profile=BROKEN_PROFILES[name]()))
    assert rendering.notes == (ICC_IGNORED,)
    assert near(pixel(variant(rendering), 0.5, 0.5), (200, 30, 30))


# Bombs and damage


def test_pixel_bomb_is_refused() -> None:
    assert refusal(images.pixel_bomb()).reason == "too_many_pixels"


def test_profile_bomb_is_not_inflated() -> None:
    rendering = run(images.profile_bomb())
    assert rendering.notes == (ICC_IGNORED,)
    assert rendering.width == 64


def test_text_bomb_is_not_inflated() -> None:
    assert run(images.text_bomb()).notes == ()


def test_broken_metadata_chunks_do_not_matter() -> None:
    file = images.with_chunk(images.encode(images.quadrants(), "PNG"), images.chunk(b"pHYs", b"x"))
    assert run(file).width == 64


def test_scan_bomb_is_refused() -> None:
    assert refusal(images.scan_bomb(64, MAX_SCANS)).reason == "corrupt"
    assert run(images.scan_bomb(64, 20)).width == 64


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP"])
@pytest.mark.parametrize("share", [0.2, 0.5, 0.9])
def test_truncated_image_is_refused_not_half_grey(kind: str, share: float) -> None:
    file = images.encode(images.photo(), kind)
    assert refusal(file[: int(len(file) * share)]).reason == "truncated"


def test_png_with_cut_image_data_is_refused() -> None:
    row = b"\0" + bytes(range(64)) * 3
    packed = zlib.compress(row * 64)
    file = (
        images.PNG_SIGNATURE + images.ihdr(64, 64, 8, 2) + images.chunk(b"IDAT", packed[:-30]) + images.chunk(b"IEND")
    )
    assert refusal(file).reason == "truncated"


def test_webp_with_cut_image_data_is_refused() -> None:
    file = images.encode(images.photo(), "WEBP")
    body = file[20 : len(file) // 2 & ~1]
    cut = b"RIFF" + struct.pack("<I", len(body) + 12) + b"WEBPVP8 " + struct.pack("<I", len(body)) + body
    assert refusal(cut).reason == "undecodable"


def test_details_of_a_refusal_are_deterministic() -> None:
    file = images.PNG_SIGNATURE + images.ihdr(8, 8, 8, 2) + images.chunk(b"IDAT", b"no zlib") + images.chunk(b"IEND")
    first, second = refusal(file), refusal(file)
    assert first.reason == "undecodable"
    assert first.detail == second.detail
    assert "0x" not in first.detail


@pytest.mark.parametrize(("code", "raised"), [(1, MemoryError), (2, MemoryError), (6, ImageRejected)])
def test_encoder_failure_has_its_reason(monkeypatch: pytest.MonkeyPatch, code: int, raised: type[Exception]) -> None:
    """A failed allocation is no result about the image; every other failure is."""

    def fail(*_: object, **__: object) -> None:
        raise ValueError(f"encoding error {code}")

    data = images.encode(images.quadrants(), "PNG")
    monkeypatch.setattr(Image.Image, "save", fail)
    with pytest.raises(raised) as caught:
        run(data)
    assert getattr(caught.value, "reason", "encoder_failed") == "encoder_failed"


SEEDS = [
    images.encode(images.photo(24, 16), "JPEG", icc_profile=images.display_p3()),
    images.encode(images.photo(24, 16), "PNG", icc_profile=images.display_p3()),
    images.encode(images.photo(24, 16), "WEBP", icc_profile=images.display_p3()),
    images.animation("PNG", size=(24, 24)),
    images.animation("WEBP", size=(24, 24)),
]


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    seed=st.sampled_from(SEEDS), changes=st.lists(st.tuples(st.integers(0, 4000), st.integers(0, 255)), max_size=6)
)  # fmt: skip
def test_damaged_file_is_rendered_or_refused(seed: bytes, changes: list[tuple[int, int]]) -> None:
    """Damaged files are rendered or refused with a typed reason; no other exception leaves the renderer."""
    damaged = bytearray(seed)
    for position, value in changes:
        damaged[position % len(damaged)] = value
    limits = RenderLimits(max_pixels=100_000, max_side=1000, max_frames=10, max_animation_pixels=100_000)
    assert _verdict(bytes(damaged), limits) in {*FAILURE_REASONS, "ready"}


def _verdict(data: bytes, limits: RenderLimits) -> str:
    try:
        run(data, limits=limits)
    except ImageRejected as error:
        return error.reason
    return "ready"


# Placeholders


@pytest.mark.parametrize("color", [(200, 30, 30), (10, 10, 10), (250, 240, 230)])
def test_placeholders_of_an_image_of_one_color_are_exact(color: Color) -> None:
    rendering = run(images.encode(images.solid(color), "PNG"))
    dominant = tuple(bytes.fromhex(rendering.dominant_color.removeprefix("#")))
    assert near(dominant, color)
    average = thumb_hash_to_average_rgba(list(base64.b64decode(rendering.thumbhash)))
    assert average is not None
    assert near(tuple(round(255 * value) for value in average[:3]), color, 16)


def test_dominant_color_is_that_of_the_largest_visible_part() -> None:
    image = Image.new("RGBA", (90, 30), (0, 0, 255, 0))
    image.paste((200, 30, 30, 255), (40, 0, 90, 30))
    image.paste((250, 250, 250, 255), (40, 0, 50, 30))
    rendering = run(images.encode(image, "PNG"))
    assert near(tuple(bytes.fromhex(rendering.dominant_color.removeprefix("#"))), (200, 30, 30), 12)


def test_wholly_transparent_image_has_placeholders() -> None:
    rendering = run(images.encode(images.solid((1, 2, 3, 0), "RGBA"), "PNG"))
    assert rendering.dominant_color == "#ffffff"
    assert len(base64.b64decode(rendering.thumbhash)) >= 6
