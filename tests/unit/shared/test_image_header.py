"""What the gateway accepts and refuses of each kind of file, by its headers alone."""

import struct
import time
import tracemalloc
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image, ImageOps

from shared.contract.events import FAILURE_REASONS
from shared.contract.image_header import MAX_CHUNKS, ImageInfo, exif_orientation, inspect
from shared.errors import ImageRejected
from tests.support import images


def look(data: bytes) -> ImageInfo:
    return inspect(data, max_pixels=64_000_000, max_side=16_383)


def refusal(data: bytes) -> ImageRejected:
    with pytest.raises(ImageRejected) as caught:
        look(data)
    return caught.value


def verdict(data: bytes) -> str:
    try:
        look(data)
    except ImageRejected as error:
        return error.reason
    return "accepted"


PHOTO = images.photo(60, 40)

ACCEPTED: dict[str, tuple[Callable[[], bytes], str, int, int, int]] = {
    "baseline jpeg": (lambda: images.encode(PHOTO, "JPEG"), "jpg", 60, 40, 1),
    "progressive jpeg": (lambda: images.encode(PHOTO, "JPEG", progressive=True), "jpg", 60, 40, 1),
    "grey jpeg": (lambda: images.encode(PHOTO.convert("L"), "JPEG"), "jpg", 60, 40, 1),
    "cmyk jpeg": (lambda: images.encode(PHOTO.convert("CMYK"), "JPEG"), "jpg", 60, 40, 1),
    "mpo": (lambda: images.encode(PHOTO, "MPO", save_all=True, append_images=[PHOTO]), "jpg", 60, 40, 1),
    "rgb png": (lambda: images.encode(PHOTO, "PNG"), "png", 60, 40, 1),
    "16-bit png": (images.grey16_png, "png", 32, 8, 1),
    "interlaced png": (images.interlaced_png, "png", 8, 8, 1),
    "palette png": (lambda: images.encode(PHOTO.convert("P"), "PNG"), "png", 60, 40, 1),
    "apng": (lambda: images.animation("PNG"), "png", 64, 48, 3),
    "lossy webp": (lambda: images.encode(PHOTO, "WEBP"), "webp", 60, 40, 1),
    "lossless webp": (lambda: images.encode(PHOTO, "WEBP", lossless=True), "webp", 60, 40, 1),
    "extended webp": (lambda: images.encode(PHOTO, "WEBP", icc_profile=images.srgb()), "webp", 60, 40, 1),
    "animated webp": (lambda: images.animation("WEBP"), "webp", 64, 48, 3),
    "one pixel": (lambda: images.encode(Image.new("RGB", (1, 1)), "PNG"), "png", 1, 1, 1),
    "16383 wide": (lambda: images.encode(Image.new("L", (16_383, 1)), "PNG"), "png", 16_383, 1, 1),
    "16383 high": (lambda: images.encode(Image.new("L", (1, 16_383)), "JPEG"), "jpg", 1, 16_383, 1),
    "profile bomb": (images.profile_bomb, "png", 64, 48, 1),
    "text bomb": (images.text_bomb, "png", 64, 48, 1),
}


@pytest.mark.parametrize("name", ACCEPTED)
def test_supported_formats_are_accepted(name: str) -> None:
    make, extension, width, height, frames = ACCEPTED[name]
    info = look(make())
    assert (info.extension, info.width, info.height, info.frames) == (extension, width, height, frames)
    assert info.content_type == {"jpg": "image/jpeg"}.get(extension, f"image/{extension}")


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_size_is_the_displayed_size(kind: str, orientation: int) -> None:
    info = look(images.encode(PHOTO, kind, exif=images.exif(orientation)))
    assert (info.width, info.height) == ((40, 60) if orientation >= 5 else (60, 40))
    assert info.stored_size == (60, 40)


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP"])
def test_bytes_behind_the_end_are_ignored(kind: str) -> None:
    assert look(images.encode(PHOTO, kind) + b"trailing junk").width == 60


def test_jpeg_padding_and_junk_between_segments_are_ignored() -> None:
    file = images.encode(PHOTO, "JPEG")
    assert look(file[:2] + b"\xff" * 1000 + b"\0junk" + file[2:]).width == 60


@pytest.mark.parametrize("name", images.FOREIGN)
def test_refuses_other_formats_and_names_them(name: str) -> None:
    error = refusal(images.FOREIGN[name]())
    assert error.reason == "unsupported_format"
    assert f"looks like {name};" in error.detail
    assert "PNG, JPEG or WebP" in error.detail


def test_refuses_empty() -> None:
    assert refusal(b"").reason == "empty"


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP"])
def test_refuses_every_cut(kind: str) -> None:
    """A file that is cut at any byte is refused, and mistaken for another format only within its first bytes."""
    file = images.encode(images.photo(20, 10), kind, exif=images.exif(1, gps=True))
    # The cut of one byte is a file of one byte, which is no signature yet.
    reasons = {refusal(file[:length]).reason for length in range(2, len(file))}
    assert reasons == {"truncated"}


@pytest.mark.parametrize("kind", ["PNG", "WEBP"])
def test_refuses_a_cut_animation(kind: str) -> None:
    file = images.animation(kind)
    assert refusal(file[: len(file) // 2]).reason == "truncated"


def test_end_marker_of_the_thumbnail_does_not_count() -> None:
    thumbnail = images.encode(PHOTO.resize((16, 16)), "JPEG")
    file = images.encode(PHOTO, "JPEG")
    segment = b"\xff\xe1" + struct.pack(">H", len(thumbnail) + 8) + b"Exif\0\0" + thumbnail
    whole = file[:2] + segment + file[2:]
    assert look(whole).width == 60
    assert refusal(whole[:-20]).reason == "truncated"


PNG, JPEG = images.encode(PHOTO, "PNG"), images.encode(PHOTO, "JPEG")
SOF = JPEG.find(b"\xff\xc0")


CORRUPT: dict[str, Callable[[], bytes]] = {
    "png without image data": lambda: images.PNG_SIGNATURE + images.ihdr(1, 1, 8, 0) + images.chunk(b"IEND"),
    "png without header": lambda: images.PNG_SIGNATURE + images.chunk(b"IDAT", bytes(20)) + images.chunk(b"IEND"),
    "png header checksum": lambda: PNG[:29] + bytes(4) + PNG[33:],
    "png second header": lambda: images.with_chunk(PNG, images.ihdr(60, 39, 8, 2)),
    "png impossible depth": lambda: images.png(1, 1, 4, 2, bytes(3)),
    "png zero width": lambda: images.PNG_SIGNATURE + images.ihdr(0, 1, 8, 0) + PNG[33:],
    "png palette missing": lambda: images.png(1, 1, 8, 3, b"\0"),
    "png of chunks only": lambda: images.with_chunk(
        images.encode(PHOTO, "PNG"), images.chunk(b"teSt") * (MAX_CHUNKS + 1)
    ),
    "jpeg zero height": lambda: JPEG[: SOF + 5] + b"\0\0" + JPEG[SOF + 7 :],
    "jpeg without frame": lambda: b"\xff\xd8\xff\xda\0\x08\1\1\0\0\x3f\0\xff\xd9",
    "jpeg without image": lambda: b"\xff\xd8\xff\xd9",
    "jpeg of segments only": lambda: b"\xff\xd8" + b"\xff\xfe\0\2" * (MAX_CHUNKS + 1),
    "webp of zeros": lambda: b"RIFF" + struct.pack("<I", 92) + b"WEBPVP8 " + struct.pack("<I", 80) + bytes(80),
}


@pytest.mark.parametrize("name", CORRUPT)
def test_refuses_corrupt(name: str) -> None:
    assert refusal(CORRUPT[name]()).reason == "corrupt"


@pytest.mark.parametrize(
    ("offset", "value", "said"), [(4, 12, "12 bits"), (9, 2, "2 components"), (1, 0xC3, "frame type 3")]
)
def test_refuses_rare_kinds_of_jpeg(offset: int, value: int, said: str) -> None:
    error = refusal(JPEG[: SOF + offset] + bytes((value,)) + JPEG[SOF + offset + 1 :])
    assert error.reason == "unsupported_format"
    assert said in error.detail


def test_refuses_pixel_bomb_without_inflating_it() -> None:
    bomb = images.pixel_bomb()
    tracemalloc.start()
    try:
        assert refusal(bomb).reason == "too_many_pixels"
        assert tracemalloc.get_traced_memory()[1] < 1 << 20
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize(
    ("size", "kind"), [((16_384, 1), "PNG"), ((1, 16_384), "PNG"), ((16_384, 1), "JPEG"), ((1, 20_000), "JPEG")]
)
def test_refuses_a_side_wider_than_webp(size: tuple[int, int], kind: str) -> None:
    assert refusal(images.encode(Image.new("L", size), kind)).reason == "too_wide"


def test_limits_count_exactly() -> None:
    file = images.encode(PHOTO, "PNG")
    assert inspect(file, max_pixels=2400, max_side=60).width == 60
    with pytest.raises(ImageRejected, match="2400 pixels"):
        inspect(file, max_pixels=2399, max_side=60)
    with pytest.raises(ImageRejected, match="at most 59 pixels"):
        inspect(file, max_pixels=2400, max_side=59)


def test_refuses_an_animation_with_fewer_frames_than_announced() -> None:
    file = images.animation("PNG")
    start = file.find(b"acTL") + 4
    lie = images.chunk(b"acTL", struct.pack(">II", 1_000_000, 0))
    assert look(file[: start - 8] + lie + file[start + 12 :]).frames == 3


def test_default_image_is_no_frame() -> None:
    colors = images.FRAMES
    shown = look(images.apng(colors)), look(images.apng(colors, default=(9, 9, 9)))
    assert [(info.frames, info.has_default_image) for info in shown] == [(3, False), (3, True)]
    assert look(images.encode(PHOTO, "PNG")).has_default_image is False


@pytest.mark.parametrize("default", [None, (9, 9, 9)])
@pytest.mark.parametrize("announced", [0, 1 << 31 | 1])
def test_animation_of_an_invalid_number_of_frames_is_a_still(
    announced: int, default: tuple[int, int, int] | None
) -> None:
    info = look(images.apng(images.FRAMES, default=default, announced=announced, order=(5, 4, 3, 2, 1, 0)))
    assert (info.frames, info.has_default_image) == (1, False)


@pytest.mark.parametrize("order", [(0, 1, 2, 4, 3), (1, 2, 3, 4, 5), (0, 0, 1, 2, 3), (0, 3, 4, 1, 2)])
def test_refuses_frames_out_of_order(order: tuple[int, ...]) -> None:
    assert refusal(images.apng(images.FRAMES, order=order)).reason == "corrupt"


def test_refuses_an_animation_without_image_data() -> None:
    file = images.apng(images.FRAMES[:1], default=(9, 9, 9))
    start = file.find(b"fdAT") - 4
    assert refusal(file[:start] + images.chunk(b"IEND")).reason == "corrupt"


@pytest.mark.parametrize("form", images.orientation_texts(1))
@pytest.mark.parametrize("orientation", range(10))
def test_orientation_in_a_png_text_is_read_as_pillow_reads_it(form: str, orientation: int) -> None:
    file = images.with_chunk(images.encode(PHOTO, "PNG"), images.orientation_texts(orientation)[form])
    info, expected = look(file), ImageOps.exif_transpose(images.decode(file))
    assert (info.width, info.height) == expected.size
    assert info.orientation == (orientation if 1 <= orientation <= 8 else 1)


@pytest.mark.parametrize("first", ["eXIf", "raw profile"])
@pytest.mark.parametrize("has_orientation", [True, False])
def test_exif_counts_before_xmp(first: str, has_orientation: bool) -> None:
    block = images.exif(3) if has_orientation else Image.Exif().tobytes()
    texts = {"eXIf": images.chunk(b"eXIf", block.removeprefix(b"Exif\0\0"))}
    texts["raw profile"] = images.png_text(b"zTXt", images.RAW_KEYWORD, images.raw_exif_profile(block))
    file = images.with_chunk(images.encode(PHOTO, "PNG"), texts[first])
    assert look(images.with_chunk(file, images.orientation_texts(6)["XMP element"])).orientation == (
        3 if has_orientation else 6
    )


@pytest.mark.parametrize(
    "text",
    [
        images.png_text(b"tEXt", images.RAW_KEYWORD, b""),
        images.png_text(b"tEXt", images.RAW_KEYWORD, b"\nexif\n 8\nnot hexadecimal\n"),
        images.png_text(b"tEXt", images.RAW_KEYWORD, b"\nexif\n 8\n\xff\xff\n"),
        images.chunk(b"zTXt", images.RAW_KEYWORD + b"\0\0not zlib"),
        images.chunk(b"zTXt", images.RAW_KEYWORD + b"\0"),
        images.chunk(b"iTXt", images.XMP_KEYWORD + b"\0\1"),
        images.chunk(b"iTXt", images.XMP_KEYWORD),
    ],
)
def test_broken_text_means_upright(text: bytes) -> None:
    assert look(images.with_chunk(images.encode(PHOTO, "PNG"), text)).orientation == 1


def test_orientation_is_searched_in_the_start_of_a_long_text() -> None:
    long = b"<tiff:Orientation>6</tiff:Orientation>" + bytes(64 << 20)
    file = images.with_chunk(
        images.encode(PHOTO, "PNG"), images.png_text(b"iTXt", images.XMP_KEYWORD, long, packed=True)
    )
    tracemalloc.start()
    try:
        assert look(file).orientation == 6
        assert tracemalloc.get_traced_memory()[1] < 4 << 20
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("broken", [b"", b"II*\0", b"II*\0\xff\xff\xff\xff", b"MM\0*\0\0\0\x08\xff\xff", b"garbage"])
def test_broken_exif_means_upright(broken: bytes) -> None:
    assert exif_orientation(broken) == 1


@pytest.mark.parametrize("value", [0, 9, 65535])
def test_orientation_out_of_range_means_upright(value: int) -> None:
    block = images.exif(3)
    entry = struct.pack(">HHIH", 0x0112, 3, 1, 3)
    assert exif_orientation(block) == 3
    assert exif_orientation(block.replace(entry, struct.pack(">HHIH", 0x0112, 3, 1, value))) == 1


def test_orientation_in_little_endian() -> None:
    assert exif_orientation(b"II*\0" + struct.pack("<IHHHIH", 8, 1, 0x0112, 3, 1, 6) + bytes(6)) == 6


SEEDS = [
    images.encode(images.photo(20, 10), "JPEG", exif=images.exif(6)),
    images.encode(images.photo(20, 10), "PNG", exif=images.exif(6)),
    images.encode(images.photo(20, 10), "WEBP", exif=images.exif(6)),
    images.animation("PNG", size=(20, 20)),
    images.animation("WEBP", size=(20, 20)),
]


@given(
    seed=st.sampled_from(SEEDS), changes=st.lists(st.tuples(st.integers(0, 2000), st.integers(0, 255)), max_size=8),
    cut=st.integers(0, 3000),
)  # fmt: skip
def test_damaged_file_is_accepted_or_refused(seed: bytes, changes: list[tuple[int, int]], cut: int) -> None:
    """Damaged files are accepted or refused; no other exception is raised."""
    damaged = bytearray(seed)
    for position, value in changes:
        damaged[position % len(damaged)] = value
    assert verdict(bytes(damaged[:cut])) in {*FAILURE_REASONS, "accepted"}


HOSTILE: dict[str, Callable[[], bytes]] = {
    "jpeg of fill bytes": lambda: b"\xff\xd8" + b"\xff" * (5 << 20),
    "jpeg of stuffed zeros": lambda: b"\xff\xd8\xff" + b"\0\xff" * (5 << 19),
    "png of empty chunks": lambda: SEEDS[1][:33] + images.chunk(b"teSt") * 400_000,
    "webp of empty chunks": lambda: (
        b"RIFF" + struct.pack("<I", (5 << 20) + 4) + b"WEBP" + SEEDS[2][12:30] + b"JUNK\0\0\0\0" * 655_000 + bytes(1000)
    ),
    "png of many orientations that are bombs": images.orientation_bomb,
    "png of a long exif directory": lambda: images.with_chunk(
        SEEDS[1], images.chunk(b"eXIf", b"MM\0*\0\0\0\x08\xff\xff" + bytes(5 << 20))
    ),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_headers_cost_little(name: str) -> None:
    """The event loop of the gateway runs this; generous for a loaded machine, far below what a quadratic walk takes."""
    data = HOSTILE[name]()
    started = time.process_time()
    assert verdict(data) in {"truncated", "corrupt", "accepted"}
    assert time.process_time() - started < 0.25


def test_normal_files_take_less_than_a_millisecond() -> None:
    files = [images.encode(images.photo(1600, 1067), kind) for kind in ("JPEG", "PNG", "WEBP")]
    for file in files:
        best = min(_seconds(file) for _ in range(20))
        assert best < 0.001


def _seconds(file: bytes) -> float:
    started = time.perf_counter()
    look(file)
    return time.perf_counter() - started
