"""Reads the headers of an image file: its type, its size as displayed and its number of frames.

The code reads signature and headers only. It decodes no pixels. Of a PNG it decompresses the texts that may have an
orientation, each up to MAX_TEXT_BYTES. So a decompression bomb costs no time or memory; the number of chunks bounds the
work. It ignores file names and declared content types. Like browsers it accepts bytes after the end and padding between
JPEG segments. It rejects files of which only a part of the image is present.
"""

import re
import struct
import zlib
from collections import Counter
from dataclasses import dataclass

from shared.contract.keys import EXTENSIONS
from shared.errors import ImageRejected

ACCEPTED = "PNG, JPEG or WebP"
MAX_CHUNKS = 20_000
"""Maximum number of chunks or segments, against hostile files. A PNG of 5 MiB in libpng's chunks of 8 KiB has 640."""
MAX_EXIF_ENTRIES = 1_000
"""Maximum number of EXIF entries that are read. They are sorted by tag, and cameras write fewer than a hundred."""

MAX_TEXT_BYTES = 256 * 1024
"""Bytes of a PNG's text in which an orientation is searched. It bounds the decompression; an XMP packet has some kB."""
MAX_ANNOUNCED_FRAMES = 1 << 31
"""More frames are not a valid number in a PNG file, whose integers have 31 bits."""

Chunks = list[tuple[bytes, int, int]]
"""Type, start of the payload and length of the payload of each chunk of a PNG file, in bytes."""

_PNG = b"\x89PNG\r\n\x1a\n"
_JPEG = b"\xff\xd8\xff"

_PNG_DEPTHS = {0: (1, 2, 4, 8, 16), 2: (8, 16), 3: (1, 2, 4, 8), 4: (8, 16), 6: (8, 16)}
"""Bit depths that PNG allows for each colour type (PNG specification, table 12)."""

_ORIENTATION_TEXTS = frozenset({b"Raw profile type exif", b"XML:com.adobe.xmp"})
"""Keywords of the PNG texts that may have an orientation."""
_XMP_ORIENTATION = re.compile(rb'tiff:Orientation(?:="|>)([0-9])')

_SOF_DECODABLE = frozenset({0xC0, 0xC1, 0xC2, 0xC9, 0xCA})
"""Baseline, extended, progressive, and the arithmetic-coded forms of the last two."""
_SOF = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
_MARKER = re.compile(rb"\xff[^\x00\xff]")
_STANDALONE = frozenset({0x01, *range(0xD0, 0xD8)})
"""JPEG markers without a length: TEM and RST0 to RST7."""

_OTHER_SIGNATURES = (
    (0, b"GIF8", "GIF"),
    (0, b"BM", "BMP"),
    (0, b"II*\0", "TIFF"),
    (0, b"MM\0*", "TIFF"),
    (4, b"ftypavif", "AVIF"),
    (4, b"ftypavis", "AVIF"),
    (4, b"ftyphei", "HEIC"),
    (4, b"ftyphev", "HEIC"),
    (4, b"ftypmif1", "HEIF"),
    (4, b"ftypmsf1", "HEIF"),
    (4, b"ftyp", "a video or another ISO media file"),
    (0, b"\xff\x0a", "JPEG XL"),
    (4, b"JXL \r\n\x87\n", "JPEG XL"),
    (4, b"jP  \r\n\x87\n", "JPEG 2000"),
    (0, b"\0\0\1\0", "an icon (ICO)"),
    (0, b"8BPS", "Photoshop (PSD)"),
    (0, b"%PDF", "PDF"),
    (0, b"PK\3\4", "a ZIP archive"),
    (0, b"\x1f\x8b", "gzip"),
    (0, b"RIFF", "a RIFF file other than WebP"),
)


@dataclass(frozen=True)
class ImageInfo:
    """An accepted image. `width` and `height` in pixels as displayed, after the `orientation` (1 to 8).

    `has_default_image`: the file is an animated PNG whose first picture is not a frame of the animation.
    """

    content_type: str
    extension: str
    width: int
    height: int
    frames: int
    orientation: int = 1
    has_default_image: bool = False

    @property
    def stored_size(self) -> tuple[int, int]:
        """Width and height in pixels as stored in the file, before orientation."""
        return (self.height, self.width) if self.orientation >= 5 else (self.width, self.height)


@dataclass
class _Header:
    """Header values of a file: size in pixels as stored; `frames` is 1 unless the image is animated."""

    width: int
    height: int
    frames: int = 1
    orientation: int = 1
    has_default_image: bool = False


def inspect(data: bytes, *, max_pixels: int, max_side: int) -> ImageInfo:
    """Read the headers of a PNG, JPEG or WebP file.

    Raises ImageRejected with reason `empty`, `unsupported_format`, `truncated`, `corrupt`, `too_many_pixels` (more than
    `max_pixels` in one frame) or `too_wide` (a side of more than `max_side` pixels).
    """
    if not data:
        raise ImageRejected("empty", "The file is empty.")
    if data.startswith(_PNG):
        content_type, header = "image/png", _read_png(data)
    elif data.startswith(_JPEG):
        content_type, header = "image/jpeg", _read_jpeg(data)
    elif data.startswith(b"RIFF") and data[8:12] == b"WEBP":
        content_type, header = "image/webp", _read_webp(data)
    elif _is_cut_signature(data):
        raise _truncated("The file ends within its signature.")
    else:
        raise ImageRejected("unsupported_format", f"This looks like {_guess(data)}; accepted are {ACCEPTED}.")
    _check_limits(header, max_pixels, max_side)
    turned = header.orientation >= 5
    return ImageInfo(
        content_type=content_type,
        extension=EXTENSIONS[content_type],
        width=header.height if turned else header.width,
        height=header.width if turned else header.height,
        frames=header.frames,
        orientation=header.orientation,
        has_default_image=header.has_default_image,
    )


def _check_limits(header: _Header, max_pixels: int, max_side: int) -> None:
    width, height = header.width, header.height
    if width < 1 or height < 1:
        raise _corrupt(f"The header claims {width} x {height} pixels.")
    if width * height > max_pixels:
        raise ImageRejected(
            "too_many_pixels", f"{width} x {height} are {width * height} pixels; at most {max_pixels} are accepted."
        )
    if max(width, height) > max_side:
        raise ImageRejected("too_wide", f"{width} x {height}: a side may have at most {max_side} pixels.")


def _truncated(detail: str) -> ImageRejected:
    return ImageRejected("truncated", detail)


def _corrupt(detail: str) -> ImageRejected:
    return ImageRejected("corrupt", detail)


# PNG


def _read_png(data: bytes) -> _Header:
    header = _read_ihdr(data)
    chunks = png_chunks(data)
    kinds = Counter(kind for kind, _, _ in chunks)
    if kinds[b"IHDR"] > 1:
        # Decoders use the last one, whose size nothing here has checked.
        raise _corrupt("The PNG file has more than one header (IHDR).")
    if not any(length for kind, _, length in chunks if kind == b"IDAT"):
        raise _corrupt("The PNG file has no image data (IDAT).")
    if data[25] == 3 and b"PLTE" not in kinds:
        raise _corrupt("The PNG file is indexed but has no palette (PLTE).")
    if b"acTL" in kinds:
        _read_animation(data, chunks, header)
    header.orientation = _png_orientation(data, chunks)
    return header


def _read_animation(data: bytes, chunks: Chunks, header: _Header) -> None:
    """Frames of an APNG (PNG specification, section 11.3.2). Raises ImageRejected `corrupt` if they are out of order.

    An animation whose first frame control comes after the image data has a default image, which is not a frame.
    """
    kinds = [kind for kind, _, _ in chunks]
    control = kinds.index(b"acTL")
    first_data = kinds.index(b"IDAT")
    _, start, length = chunks[control]
    announced = int.from_bytes(data[start : start + 4]) if length >= 8 else 0
    if control > first_data or not 1 <= announced <= MAX_ANNOUNCED_FRAMES:
        return
    parts = [chunk for chunk in chunks[control:] if chunk[0] in (b"fcTL", b"fdAT")]
    numbers = [int.from_bytes(data[start : start + min(4, length)]) for _, start, length in parts]
    if numbers != list(range(len(numbers))):
        raise _corrupt("The frames of the animated PNG file are not in order.")
    # acTL may announce more frames than the file has, so use the smaller number.
    frames = min(announced, kinds[control:].count(b"fcTL"))
    if frames:
        header.frames = frames
        header.has_default_image = b"fcTL" not in kinds[control:first_data]
    if header.has_default_image and b"fdAT" not in kinds:
        raise _corrupt("The frames of the animated PNG file have no image data.")


def _png_orientation(data: bytes, chunks: Chunks) -> int:
    """Orientation (1 to 8) in the eXIf chunk, else in ImageMagick's text profile, else in XMP; 1 without any.

    The order is that of Pillow's `exif_transpose`. Each text is decompressed up to MAX_TEXT_BYTES.
    """
    texts = _png_texts(data, chunks)
    exif = next((data[start : start + length] for kind, start, length in chunks if kind == b"eXIf"), None)
    if exif is None:
        exif = _raw_profile(_png_text(texts.get(b"Raw profile type exif")))
    orientation = _exif_orientation(exif)
    if orientation is None and (match := _XMP_ORIENTATION.search(_png_text(texts.get(b"XML:com.adobe.xmp")))):
        orientation = int(match[1])
    return orientation if orientation and orientation <= 8 else 1


def _png_texts(data: bytes, chunks: Chunks) -> dict[bytes, tuple[bytes, bytes]]:
    """Type and payload of each text chunk by its keyword, not decompressed. The last one of a keyword counts."""
    texts = {}
    for kind, start, length in chunks:
        if kind in (b"tEXt", b"zTXt", b"iTXt"):
            # A keyword has at most 79 bytes.
            keyword, end, _ = data[start : start + min(length, 80)].partition(b"\0")
            if end and keyword in _ORIENTATION_TEXTS:
                texts[keyword] = kind, data[start + len(keyword) + 1 : start + length]
    return texts


def _png_text(text: tuple[bytes, bytes] | None) -> bytes:
    """The first MAX_TEXT_BYTES of a text chunk; empty if there is none, or if it is invalid."""
    if text is None:
        return b""
    kind, rest = text
    packed = kind == b"zTXt"
    if kind == b"zTXt":
        # Compression method.
        rest = rest[1:]
    elif kind == b"iTXt":
        # Compression flag and method, then language and translated keyword, each with a NUL at its end.
        packed = rest[:1] == b"\1"
        rest = rest[2:].partition(b"\0")[2].partition(b"\0")[2]
    if not packed:
        return rest[:MAX_TEXT_BYTES]
    try:
        return zlib.decompressobj().decompress(rest, MAX_TEXT_BYTES)
    except zlib.error:
        return b""


def _raw_profile(text: bytes) -> bytes:
    """The bytes of ImageMagick's "raw profile": an empty line, a name, a length, and lines of hexadecimal digits."""
    digits = b"".join(text.split(b"\n")[3:])
    try:
        return bytes.fromhex(digits[: len(digits) & ~1].decode("ascii"))
    except ValueError:
        return b""


def _read_ihdr(data: bytes) -> _Header:
    if len(data) < 33:
        raise _truncated("The PNG file ends within its header.")
    length, kind, width, height, depth, color, compression, filtering, interlace, crc = struct.unpack_from(
        ">I4sIIBBBBBI", data, 8
    )
    if kind != b"IHDR" or length != 13:
        raise _corrupt("The PNG file does not start with a header (IHDR).")
    if zlib.crc32(data[12:29]) != crc:
        raise _corrupt("The checksum of the PNG header is wrong.")
    if depth not in _PNG_DEPTHS.get(color, ()) or compression or filtering or interlace > 1:
        raise _corrupt("The PNG header holds values that PNG does not define.")
    return _Header(width, height)


def png_chunks(data: bytes) -> Chunks:
    """(type, offset of the payload, length of the payload) of each chunk up to IEND, inclusive, in bytes.

    Raises ImageRejected: `truncated` if the file ends before IEND, `corrupt` if it has more than MAX_CHUNKS chunks.
    """
    chunks = []
    position, size = 8, len(data)
    while True:
        if position + 12 > size:
            raise _truncated("The PNG file ends before its end marker (IEND).")
        length, kind = struct.unpack_from(">I4s", data, position)
        if position + 12 + length > size:
            raise _truncated(f"The PNG file ends within its {kind.decode('ascii', 'replace')} chunk.")
        chunks.append((kind, position + 8, length))
        if kind == b"IEND":
            return chunks
        if len(chunks) > MAX_CHUNKS:
            raise _corrupt(f"The PNG file has more than {MAX_CHUNKS} chunks.")
        position += 12 + length


# JPEG


def _read_jpeg(data: bytes) -> _Header:
    header: _Header | None = None
    orientation: int | None = None
    position = 2
    for _ in range(MAX_CHUNKS):
        marker, position = _next_marker(data, position)
        if marker in _STANDALONE:
            continue
        if marker == 0xD9:
            raise _corrupt("The JPEG file ends before any image data.")
        length = int.from_bytes(data[position : position + 2])
        if position + max(length, 2) > len(data):
            raise _truncated("The JPEG file ends within its header.")
        if length < 2:
            raise _corrupt("A JPEG segment is shorter than its own length field.")
        if marker in _SOF and header is None:
            header = _read_sof(marker, data[position + 2 : position + length])
        elif marker == 0xE1 and orientation is None and data.startswith(b"Exif\0\0", position + 2):
            orientation = exif_orientation(data[position + 8 : position + length])
        elif marker == 0xDA:
            return _finish_jpeg(data, position + length, header, orientation or 1)
        position += length
    raise _corrupt(f"The JPEG header has more than {MAX_CHUNKS} segments.")


def _next_marker(data: bytes, position: int) -> tuple[int, int]:
    """The next marker and the position after it. Skips fill bytes and other bytes between segments, like libjpeg."""
    match = _MARKER.search(data, position)
    if match is None:
        raise _truncated("The JPEG file ends within its header.")
    return data[match.end() - 1], match.end()


def _read_sof(marker: int, frame: bytes) -> _Header:
    if len(frame) < 6:
        raise _corrupt("The JPEG frame header is too short.")
    precision, height, width, components = struct.unpack_from(">BHHB", frame)
    if marker not in _SOF_DECODABLE or precision != 8 or components not in (1, 3, 4):
        raise ImageRejected(
            "unsupported_format",
            f"This is a JPEG of a rare kind (frame type {marker - 0xC0}, {precision} bits, {components} components); "
            f"accepted are {ACCEPTED}, JPEG with 8 bits and 1, 3 or 4 components.",
        )
    return _Header(width, height)


def _finish_jpeg(data: bytes, scan: int, header: _Header | None, orientation: int) -> _Header:
    if header is None:
        raise _corrupt("The JPEG file has image data before its frame header.")
    # In a scan, FF is always followed by 00 or by a restart marker. So FF D9 after the start of the scan is an end
    # marker. The search starts at the end of the file, where the marker usually is. The EXIF thumbnail has an end
    # marker too, but it lies before the scan.
    if data.rfind(b"\xff\xd9", scan) < 0:
        raise _truncated("The JPEG file ends before its end marker (EOI).")
    header.orientation = orientation
    return header


# WebP


def _read_webp(data: bytes) -> _Header:
    riff_size = int.from_bytes(data[4:8], "little")
    if riff_size + 8 > len(data) or len(data) < 30:
        raise _truncated(f"The WebP file should have {riff_size + 8} bytes and has {len(data)}.")
    header: _Header | None = None
    position, end = 12, riff_size + 8
    extended = has_image = False
    orientation: int | None = None
    frames = 0
    for _ in range(MAX_CHUNKS):
        if position + 8 > end:
            break
        kind, length = struct.unpack_from("<4sI", data, position)
        start = position + 8
        if start + length > end:
            raise _truncated("The WebP file ends within a chunk.")
        if header is None:
            header = _read_webp_size(kind, data[start : start + min(length, 10)])
            extended = kind == b"VP8X"
        has_image = has_image or kind in (b"VP8 ", b"VP8L", b"ANMF")
        frames += extended and kind == b"ANMF"
        if kind == b"EXIF" and extended and orientation is None:
            orientation = exif_orientation(data[start : start + length])
        position = start + length + (length & 1)
    else:
        raise _corrupt(f"The WebP file has more than {MAX_CHUNKS} chunks.")
    if header is None or not has_image:
        raise _corrupt("The WebP file has no image data.")
    header.frames = max(1, frames)
    header.orientation = orientation or 1
    return header


def _read_webp_size(kind: bytes, chunk: bytes) -> _Header:
    if kind == b"VP8X" and len(chunk) == 10:
        return _Header(int.from_bytes(chunk[4:7], "little") + 1, int.from_bytes(chunk[7:10], "little") + 1)
    if kind == b"VP8L" and len(chunk) >= 5 and chunk[0] == 0x2F:
        bits = int.from_bytes(chunk[1:5], "little")
        return _Header((bits & 0x3FFF) + 1, ((bits >> 14) & 0x3FFF) + 1)
    if kind == b"VP8 " and len(chunk) == 10 and not chunk[0] & 1 and chunk[3:6] == b"\x9d\x01\x2a":
        width, height = struct.unpack_from("<HH", chunk, 6)
        return _Header(width & 0x3FFF, height & 0x3FFF)
    raise _corrupt("The WebP file does not start with a valid image header.")


# EXIF


def exif_orientation(exif: bytes) -> int:
    """Orientation (1 to 8) in an EXIF block (TIFF structure); 1 if it is missing, invalid or out of range."""
    return _exif_orientation(exif) or 1


def _exif_orientation(exif: bytes) -> int | None:
    """The same, but None if the block has no orientation."""
    exif = exif.removeprefix(b"Exif\0\0")
    order = {b"II*\0": "<", b"MM\0*": ">"}.get(exif[:4])
    if order is None or len(exif) < 8:
        return None
    (directory,) = struct.unpack_from(f"{order}I", exif, 4)
    if directory + 2 > len(exif):
        return None
    (entries,) = struct.unpack_from(f"{order}H", exif, directory)
    end = min(directory + 2 + min(entries, MAX_EXIF_ENTRIES) * 12, len(exif) - 11)
    for start in range(directory + 2, end, 12):
        tag, kind, count, value = struct.unpack_from(f"{order}HHIH", exif, start)
        if tag == 0x0112:
            return value if kind == 3 and count == 1 and 1 <= value <= 8 else 1
    return None


# Everything else


def _is_cut_signature(data: bytes) -> bool:
    if not 2 <= len(data) < 12:
        return False
    return any(signature.startswith(data) for signature in (_PNG, _JPEG)) or b"RIFF".startswith(data[:4])


def _guess(data: bytes) -> str:
    for offset, signature, name in _OTHER_SIGNATURES:
        if data.startswith(signature, offset):
            return name
    start = data[:1024].removeprefix(b"\xef\xbb\xbf").lstrip().lower()
    if b"<svg" in start:
        return "SVG"
    if start.startswith((b"<!doctype html", b"<html")):
        return "HTML"
    if b"\0" not in start:
        try:
            start.decode()
        except UnicodeDecodeError as error:
            # The first 1,024 bytes may end within a multi-byte character: that is still text.
            return "text" if error.start >= len(start) - 3 else "an unknown format"
        return "text"
    return "an unknown format"
