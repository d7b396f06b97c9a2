"""Reads the size in pixels of an encoded variant from its bytes, which a render worker may have forged."""

import struct
from collections.abc import Iterator

from shared.contract.image_header import inspect
from shared.errors import ImageRejected

_BOX = struct.Struct(">I4s")
_SIZE = struct.Struct(">4xII")
"""Content of an `ispe` box: version and flags, width, height (ISO/IEC 23008-12, section 6.5.3)."""
_BRANDS = (b"avif", b"avis")
"""Brands of still and animated AVIF files."""


def size_of(data: bytes, content_type: str, *, max_pixels: int, max_side: int) -> tuple[int, int]:
    """Width and height of a file of this type. Raises ImageRejected if it is none, or beyond the limits."""
    if content_type == "image/avif":
        width, height = _avif_size(data)
        if not (0 < width <= max_side and 0 < height <= max_side and width * height <= max_pixels):
            raise ImageRejected("too_many_pixels", f"an AVIF file of {width} x {height} pixels")
        return width, height
    info = inspect(data, max_pixels=max_pixels, max_side=max_side)
    if info.content_type != content_type:
        raise ImageRejected("unsupported_format", f"{info.content_type} in place of {content_type}")
    return info.width, info.height


def _avif_size(data: bytes) -> tuple[int, int]:
    """Width and height in all `ispe` boxes of the file. The colour and the alpha of an image have the same size."""
    boxes = dict(_boxes(data))
    if boxes.get(b"ftyp", b"")[:4] not in _BRANDS:
        raise _corrupt("no AVIF brand")
    if b"mdat" not in boxes:
        raise _corrupt("no image data")
    # `meta` begins with its version and flags.
    properties = dict(_boxes(dict(_boxes(boxes.get(b"meta", b"")[4:])).get(b"iprp", b""))).get(b"ipco", b"")
    sizes = {content[: _SIZE.size] for kind, content in _boxes(properties) if kind == b"ispe"}
    if len(sizes) != 1 or len(size := sizes.pop()) != _SIZE.size:
        raise _corrupt("not one size")
    width, height = _SIZE.unpack(size)
    return width, height


def _boxes(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Type and content of each box of ISO base media (ISO/IEC 14496-12). Encoders of images write no 64-bit sizes."""
    position = 0
    while position < len(data):
        if len(data) - position < _BOX.size:
            raise _corrupt("a cut box")
        size, kind = _BOX.unpack_from(data, position)
        if not _BOX.size <= size <= len(data) - position:
            raise _corrupt("a box that is longer than its file")
        yield kind, data[position + _BOX.size : position + size]
        position += size


def _corrupt(detail: str) -> ImageRejected:
    return ImageRejected("corrupt", f"not an AVIF file: {detail}")
