"""Images of every kind for tests. All are generated, and none is random."""

import struct
import zlib
from collections.abc import Callable, Sequence
from functools import cache
from io import BytesIO

from PIL import Image, ImageCms, ImageDraw

PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"
QUADRANTS = {
    "top left": (220, 30, 30),
    "top right": (30, 200, 40),
    "bottom left": (40, 60, 220),
    "bottom right": (240, 230, 60),
}
"""Colours of the quadrants of `quadrants`, as displayed."""


def photo(width: int = 640, height: int = 427) -> Image.Image:
    """RGB of smooth gradients, with no flat area and no two equal corners."""
    ramp = Image.linear_gradient("L").resize((width, height), Image.Resampling.BICUBIC)
    rings = Image.radial_gradient("L").resize((width, height), Image.Resampling.BICUBIC)
    return Image.merge("RGB", (ramp, rings, ramp.transpose(Image.Transpose.ROTATE_180)))


def quadrants(width: int = 64, height: int = 48) -> Image.Image:
    """RGB with one colour per quadrant, so that every rotation or flip is visible."""
    image = Image.new("RGB", (width, height))
    draw = ImageDraw.Draw(image)
    for name, color in QUADRANTS.items():
        left = 0 if "left" in name else width // 2
        top = 0 if "top" in name else height // 2
        draw.rectangle((left, top, left + width // 2 - 1, top + height // 2 - 1), fill=color)
    return image


def solid(color: tuple[int, ...], mode: str = "RGB", size: tuple[int, int] = (32, 24)) -> Image.Image:
    """One colour."""
    return Image.new(mode, size, color)


def encode(image: Image.Image, kind: str, **options: object) -> bytes:
    """The image as a file of Pillow's format `kind`."""
    buffer = BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def broken_png() -> bytes:
    """A PNG whose headers are valid and whose pixels cannot be decoded."""
    data = bytearray(encode(photo(200, 150), "PNG"))
    data[len(data) // 2 : len(data) // 2 + 40] = bytes(40)
    return bytes(data)


def decode(data: bytes) -> Image.Image:
    """A file decoded by Pillow."""
    image = Image.open(BytesIO(data))
    image.load()
    return image


# EXIF


def exif(orientation: int = 1, *, gps: bool = False) -> bytes:
    """An EXIF block with this orientation; with `gps`, also with a place and a camera, which are personal data."""
    block = Image.Exif()
    block[0x0112] = orientation
    if gps:
        block[0x010F] = "Secret Camera"
        block.get_ifd(0x8825).update({1: "N", 2: (0.0, 0.0, 1.0), 3: "E", 4: (0.0, 0.0, 1.0)})
    return block.tobytes()


def stored_for(displayed: Image.Image, orientation: int) -> Image.Image:
    """What a camera stores so that it is displayed like this under the orientation."""
    inverse = {
        2: Image.Transpose.FLIP_LEFT_RIGHT,
        3: Image.Transpose.ROTATE_180,
        4: Image.Transpose.FLIP_TOP_BOTTOM,
        5: Image.Transpose.TRANSPOSE,
        6: Image.Transpose.ROTATE_90,
        7: Image.Transpose.TRANSVERSE,
        8: Image.Transpose.ROTATE_270,
    }
    return displayed.transpose(inverse[orientation]) if orientation in inverse else displayed


# PNG by hand, for what Pillow does not write


def chunk(kind: bytes, payload: bytes = b"") -> bytes:
    """One PNG chunk."""
    return struct.pack(">I", len(payload)) + kind + payload + struct.pack(">I", zlib.crc32(kind + payload))


def ihdr(width: int, height: int, depth: int, color: int, interlace: int = 0) -> bytes:
    """A PNG header chunk."""
    return chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, depth, color, 0, 0, interlace))


def png(width: int, height: int, depth: int, color: int, samples: bytes, *before: bytes) -> bytes:
    """A PNG of raw samples (no filter), with the chunks `before` the image data."""
    stride = len(samples) // height
    rows = b"".join(b"\0" + samples[row * stride : (row + 1) * stride] for row in range(height))
    return b"".join(
        (PNG_SIGNATURE, ihdr(width, height, depth, color), *before, chunk(b"IDAT", zlib.compress(rows)), chunk(b"IEND"))
    )


def with_chunk(file: bytes, added: bytes) -> bytes:
    """The PNG with a chunk put right behind its header."""
    return file[:33] + added + file[33:]


def interlaced_png() -> bytes:
    """8x8 RGB in Adam7 order: red left, blue right."""
    passes = ((0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2))
    rows = []
    for left, top, across, down in passes:
        row = b"\0" + b"".join(b"\xff\0\0" if x < 4 else b"\0\0\xff" for x in range(left, 8, across))
        rows += [row] * len(range(top, 8, down))
    data = chunk(b"IDAT", zlib.compress(b"".join(rows)))
    return PNG_SIGNATURE + ihdr(8, 8, 8, 2, interlace=1) + data + chunk(b"IEND")


def grey16_png() -> bytes:
    """32x8, 16 bits: the upper half at one half of white, the lower at one quarter."""
    return png(32, 8, 16, 0, struct.pack(">H", 0x8000) * 128 + struct.pack(">H", 0x4000) * 128)


def pixel_bomb() -> bytes:
    """A PNG of 30,000 x 30,000 zeros, 1 bit each: 112 MB of samples in 110 kB."""
    packer = zlib.compressobj(9)
    row = bytes(1 + 30_000 // 8)
    data = b"".join(packer.compress(row) for _ in range(30_000)) + packer.flush()
    return PNG_SIGNATURE + ihdr(30_000, 30_000, 1, 0) + chunk(b"IDAT", data) + chunk(b"IEND")


@cache
def _zeros(megabytes: int) -> bytes:
    packer = zlib.compressobj(9)
    return b"".join(packer.compress(bytes(1 << 20)) for _ in range(megabytes)) + packer.flush()


def profile_bomb() -> bytes:
    """A small PNG whose colour profile inflates to 64 MB."""
    return with_chunk(encode(quadrants(), "PNG"), chunk(b"iCCP", b"bomb\0\0" + _zeros(64)))


def text_bomb() -> bytes:
    """A small PNG with ten compressed texts (zTXt and iTXt) of 64 MB each."""
    file = encode(quadrants(), "PNG")
    for _ in range(5):
        file = with_chunk(file, chunk(b"zTXt", b"bomb\0\0" + _zeros(64)))
        file = with_chunk(file, chunk(b"iTXt", b"bomb\0\1\0\0\0" + _zeros(64)))
    return file


def orientation_bomb() -> bytes:
    """A small PNG whose texts with an orientation inflate to 64 MB each, a hundred times."""
    file = encode(quadrants(), "PNG")
    for _ in range(100):
        file = with_chunk(file, chunk(b"iTXt", b"XML:com.adobe.xmp\0\1\0\0\0" + _zeros(64)))
        file = with_chunk(file, chunk(b"zTXt", b"Raw profile type exif\0\0" + _zeros(64)))
    return file


# Orientation in the texts of a PNG


def png_text(kind: bytes, keyword: bytes, text: bytes, *, packed: bool = False) -> bytes:
    """A tEXt, zTXt or iTXt chunk; `packed` compresses an iTXt."""
    if kind == b"tEXt":
        return chunk(kind, keyword + b"\0" + text)
    if kind == b"zTXt":
        return chunk(kind, keyword + b"\0\0" + zlib.compress(text))
    head = keyword + (b"\0\1\0\0\0" if packed else b"\0\0\0\0\0")
    return chunk(kind, head + (zlib.compress(text) if packed else text))


def raw_exif_profile(block: bytes) -> bytes:
    """An EXIF block as ImageMagick writes it into a text."""
    digits = block.hex()
    lines = "\n".join(digits[start : start + 72] for start in range(0, len(digits), 72))
    return f"\nexif\n{len(block):8}\n{lines}\n".encode()


XMP_KEYWORD, RAW_KEYWORD = b"XML:com.adobe.xmp", b"Raw profile type exif"


def orientation_texts(orientation: int) -> dict[str, bytes]:
    """Chunks that have the orientation in each of the forms that programs write."""
    attribute = b'<x:xmpmeta><rdf:Description tiff:Orientation="%d"/></x:xmpmeta>' % orientation
    element = b"<x:xmpmeta><tiff:Orientation>%d</tiff:Orientation></x:xmpmeta>" % orientation
    raw = raw_exif_profile(exif(orientation))
    return {
        "XMP attribute": png_text(b"iTXt", XMP_KEYWORD, attribute),
        "XMP element": png_text(b"iTXt", XMP_KEYWORD, element),
        "compressed XMP": png_text(b"iTXt", XMP_KEYWORD, element, packed=True),
        "raw profile": png_text(b"tEXt", RAW_KEYWORD, raw),
        "compressed raw profile": png_text(b"zTXt", RAW_KEYWORD, raw),
    }


# Animations

FRAMES = ((200, 30, 30), (30, 200, 30), (30, 30, 200))
DURATIONS = (100, 250, 400)


def animation(kind: str, frames: int = 3, size: tuple[int, int] = (64, 48), **options: object) -> bytes:
    """An animated WebP or PNG of differently coloured frames, that loops twice."""
    images = []
    for index in range(frames):
        image = Image.new("RGBA", size, (0, 0, 0, 0))
        color = FRAMES[index % 3]
        ImageDraw.Draw(image).rectangle((8, 8, size[0] - 9, size[1] - 9), fill=(*color, 255))
        images.append(image)
    durations = [DURATIONS[index % 3] for index in range(frames)]
    return encode(images[0], kind, save_all=True, append_images=images[1:], duration=durations, loop=2, **options)


def apng(
    frames: Sequence[tuple[int, int, int]],
    *,
    default: tuple[int, int, int] | None = None,
    announced: int | None = None,
    order: Sequence[int] | None = None,
) -> bytes:
    """An animated PNG of 8 x 8 by hand: one colour per frame, and a default image that is no frame if one is given.

    `order` permutes the sequence numbers of the frames' chunks.
    """
    pixels = [zlib.compress(b"".join(b"\0" + bytes(color) * 8 for _ in range(8))) for color in frames]
    payloads: list[tuple[bytes, bytes]] = []
    for index, data in enumerate(pixels):
        payloads.append((b"fcTL", struct.pack(">IIIIHHBB", 8, 8, 0, 0, 1, 10, 0, 0)))
        payloads.append((b"fdAT" if index or default else b"IDAT", data))
    numbers = iter(order or range(len(payloads)))
    parts = [chunk(b"IDAT", zlib.compress(b"".join(b"\0" + bytes(default) * 8 for _ in range(8))))] if default else []
    for kind, payload in payloads:
        parts.append(chunk(kind, payload if kind == b"IDAT" else struct.pack(">I", next(numbers)) + payload))
    control = chunk(b"acTL", struct.pack(">II", len(frames) if announced is None else announced, 0))
    return b"".join((PNG_SIGNATURE, ihdr(8, 8, 8, 2), control, *parts, chunk(b"IEND")))


# JPEG


def scan_bomb(side: int, scans: int) -> bytes:
    """A progressive JPEG that repeats its last scan: each repetition costs a pass over side x side pixels."""
    file = encode(Image.new("L", (side, side), 128), "JPEG", progressive=True)
    last_scan = file[file.rfind(b"\xff\xda") : -2]
    return file[:-2] + last_scan * scans + file[-2:]


# ICC profiles

_D50 = (0.9642, 1.0, 0.8249)


def _fixed(*values: float) -> bytes:
    return b"".join(struct.pack(">i", round(value * 65536)) for value in values)


def _profile(device: bytes, space: bytes, connection: bytes, tags: dict[bytes, bytes]) -> bytes:
    """An ICC version 2 profile of these tags."""
    name = b"made for tests\0"
    description = b"desc\0\0\0\0" + struct.pack(">I", len(name)) + name + bytes(78)
    tags = {b"desc": description, b"cprt": b"text\0\0\0\0CC0\0", b"wtpt": b"XYZ \0\0\0\0" + _fixed(*_D50), **tags}
    offset = 128 + 4 + 12 * len(tags)
    table, body = struct.pack(">I", len(tags)), b""
    for signature, payload in tags.items():
        table += signature + struct.pack(">II", offset + len(body), len(payload))
        body += payload + bytes(-len(payload) % 4)
    header = struct.pack(">I4sI4s4s4s", offset + len(body), b"\0\0\0\0", 0x02400000, device, space, connection)
    header += struct.pack(">6H", 2026, 1, 1, 0, 0, 0) + b"acsp" + bytes(28) + _fixed(*_D50)
    return header + bytes(128 - len(header)) + table + body


def _gamma(value: float) -> bytes:
    return b"curv\0\0\0\0" + struct.pack(">IH", 1, round(value * 256)) + b"\0\0"


def _matrix_profile(primaries: Sequence[tuple[float, float, float]], gamma: float) -> bytes:
    tags = {}
    for letter, xyz in zip(b"rgb", primaries, strict=True):
        tags[bytes((letter,)) + b"XYZ"] = b"XYZ \0\0\0\0" + _fixed(*xyz)
        tags[bytes((letter,)) + b"TRC"] = _gamma(gamma)
    return _profile(b"mntr", b"RGB ", b"XYZ ", tags)


def display_p3() -> bytes:
    """Display P3, with a gamma of 2.2 in place of sRGB's curve. Primaries as adapted to D50."""
    return _matrix_profile(((0.5151, 0.2412, -0.0011), (0.2920, 0.6922, 0.0419), (0.1571, 0.0666, 0.7841)), 2.2)


def adobe_rgb() -> bytes:
    """A profile compatible with Adobe RGB (1998). Primaries as adapted to D50."""
    return _matrix_profile(((0.6097, 0.3111, 0.0195), (0.2053, 0.6257, 0.0609), (0.1492, 0.0632, 0.7446)), 2.19921875)


def grey_gamma(gamma: float) -> bytes:
    """Grey with this gamma."""
    return _profile(b"mntr", b"GRAY", b"XYZ ", {b"kTRC": _gamma(gamma)})


def srgb() -> bytes:
    """sRGB as lcms writes it."""
    return ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()


INKS = ((0, 174, 239), (236, 0, 140), (255, 242, 0), (35, 31, 32))
"""sRGB colours of the four inks of `press`."""


def press() -> bytes:
    """A CMYK profile of a small table: paper is white, inks have the colours INKS and multiply."""
    corners = []
    for corner in range(16):
        color = [255.0, 255.0, 255.0]
        for ink in range(4):
            if corner >> (3 - ink) & 1:
                color = [value * ink_value / 255 for value, ink_value in zip(color, INKS[ink], strict=True)]
        corners.append(bytes(round(value) for value in color))
    srgb_profile, lab_profile = (ImageCms.ImageCmsProfile(ImageCms.createProfile(name)) for name in ("sRGB", "LAB"))
    to_lab = ImageCms.ImageCmsTransform(srgb_profile, lab_profile, "RGB", "LAB")
    lab = to_lab.apply(Image.frombytes("RGB", (16, 1), b"".join(corners)))
    # Pillow holds a and b as signed bytes, an ICC table as offset ones.
    table = b"".join(bytes((L, a ^ 0x80, b ^ 0x80)) for L, a, b in _triples(lab.tobytes()))
    identity = bytes(range(256))
    matrix = _fixed(1, 0, 0, 0, 1, 0, 0, 0, 1)
    lut = b"mft1\0\0\0\0" + bytes((4, 3, 2, 0)) + matrix + identity * 4 + table + identity * 3
    return _profile(b"prtr", b"CMYK", b"Lab ", {b"A2B0": lut})


def _triples(data: bytes) -> list[tuple[int, int, int]]:
    return [(data[i], data[i + 1], data[i + 2]) for i in range(0, len(data), 3)]


# What is not accepted

SVG = b'<?xml version="1.0"?>\n<svg xmlns="http://www.w3.org/2000/svg" width="8"><script>alert(1)</script></svg>'

FOREIGN: dict[str, Callable[[], bytes]] = {
    "GIF": lambda: encode(quadrants().convert("P"), "GIF"),
    "SVG": lambda: SVG,
    "text": lambda: "just some text, été\n".encode() * 20,
    "HTML": lambda: b"<!DOCTYPE html><html><body>hi</body></html>",
    "BMP": lambda: encode(quadrants(), "BMP"),
    "TIFF": lambda: encode(quadrants(), "TIFF"),
    "AVIF": lambda: encode(quadrants(), "AVIF"),
    "HEIC": lambda: b"\0\0\0\x18ftypheic\0\0\0\0heicmif1" + bytes(100),
    "JPEG 2000": lambda: encode(quadrants(), "JPEG2000"),
    "JPEG XL": lambda: b"\0\0\0\x0cJXL \r\n\x87\n" + bytes(100),
    "PDF": lambda: encode(quadrants(), "PDF"),
    "a ZIP archive": lambda: b"PK\x03\x04" + bytes(100),
    "a RIFF file other than WebP": lambda: b"RIFF" + struct.pack("<I", 100) + b"WAVEfmt " + bytes(100),
    "an unknown format": lambda: bytes(range(256)),
}
"""Name of the format in the detail of the rejection, and a function that makes such a file."""
