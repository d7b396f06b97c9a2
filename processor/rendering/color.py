"""Converts decoded bitmaps to 8-bit sRGB: sample depth, palette, transparency key, CMYK and embedded ICC profile."""

from functools import lru_cache
from io import BytesIO
from typing import cast

from PIL import Image, ImageChops, ImageCms, ImageMath

ICC_IGNORED = "icc_profile_ignored"
"""Note: the embedded colour profile is invalid, or is for another colour space. The pixels are treated as sRGB."""

_SPACES = {"L": "GRAY", "RGB": "RGB", "RGBA": "RGB", "CMYK": "CMYK"}
_SAME = 2
"""Maximum difference in levels (of 255) at which a profile counts as sRGB. Common variants of sRGB differ by one."""


def to_srgb(image: Image.Image, icc_profile: bytes | None) -> tuple[Image.Image, tuple[str, ...]]:
    """Convert a bitmap to RGB or RGBA (straight alpha); returns it with notes. It may reuse and change `image`.

    `image` has one of the modes to which Pillow decodes PNG, JPEG and WebP. 16-bit samples are scaled to 8 bits.
    """
    image = _eight_bits(image)
    if image.mode == "RGBA" and _is_opaque(image):
        image = image.convert("RGB")
    if not icc_profile:
        return _without_profile(image), ()
    try:
        return _with_profile(image, icc_profile), ()
    except (ImageCms.PyCMSError, OSError, ValueError):
        # An image with slightly wrong colours is better than no image. Browsers ignore invalid profiles as well.
        return _without_profile(image), (ICC_IGNORED,)


def _eight_bits(image: Image.Image) -> Image.Image:
    """Convert the bitmap to mode L, RGB, RGBA or CMYK."""
    if image.mode in ("RGB", "L") and "transparency" not in image.info:
        return image
    if image.mode in ("RGBA", "CMYK"):
        return image
    if image.mode.startswith("I"):
        return _from_sixteen_bits(image)
    if image.has_transparency_data:
        return image.convert("RGBA")
    return image.convert("L" if image.mode == "1" else "RGB")


def _from_sixteen_bits(image: Image.Image) -> Image.Image:
    """Convert 16-bit grey to L, or to RGBA if one grey is transparent. Pillow's own conversion would clip at 255."""
    # 257 = 65535 / 255.
    grey = image.point(lambda value: value * (1 / 257) + 0.5).convert("L")
    key = image.info.get("transparency")
    if not isinstance(key, int):
        return grey
    opaque = ImageMath.lambda_eval(
        lambda args: args["convert"]((args["wide"] != key) * 255, "L"), wide=image.convert("I")
    )
    result = grey.convert("RGBA")
    result.putalpha(opaque)
    return result


def _is_opaque(image: Image.Image) -> bool:
    return cast("tuple[int, int]", image.getchannel("A").getextrema())[0] == 255


def _without_profile(image: Image.Image) -> Image.Image:
    return image if image.mode in ("RGB", "RGBA") else image.convert("RGB")


def _with_profile(image: Image.Image, icc_profile: bytes) -> Image.Image:
    space = _color_space(icc_profile)
    if image.mode == "L" and space == "RGB":
        image = image.convert("RGB")
    if image.mode == "RGBA" and space == "GRAY":
        # Grey with alpha: the three channels are equal, so one of them is the grey channel.
        result = _transform(icc_profile, "L").apply(image.getchannel("R"))
        result.putalpha(image.getchannel("A"))
        return result
    if _SPACES[image.mode] != space:
        raise ValueError(f"a {space} profile in a {image.mode} image")
    if image.mode in {"CMYK", "L"}:
        return _transform(icc_profile, image.mode).apply(image)
    if _is_srgb(icc_profile):
        return image
    return _transform(icc_profile, image.mode).apply_in_place(image)


@lru_cache(maxsize=8)
def _color_space(icc_profile: bytes) -> str:
    return ImageCms.ImageCmsProfile(BytesIO(icc_profile)).profile.xcolor_space.strip()


@lru_cache(maxsize=8)
def _transform(icc_profile: bytes, mode: str) -> ImageCms.ImageCmsTransform:
    """Transform from bitmaps of this mode to sRGB. It is cached, because building one takes milliseconds."""
    source = ImageCms.ImageCmsProfile(BytesIO(icc_profile))
    target = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB"))
    return ImageCms.ImageCmsTransform(source, target, mode, "RGBA" if mode == "RGBA" else "RGB")


@lru_cache(maxsize=8)
def _is_srgb(icc_profile: bytes) -> bool:
    """Whether the profile changes no colours. This is measured on a grid, because names of profiles are unreliable."""
    levels = range(0, 256, 17)
    grid = Image.frombytes(
        "RGB", (256, 16), bytes(v for r in levels for g in levels for b in levels for v in (r, g, b))
    )
    moved = ImageChops.difference(grid, _transform(icc_profile, "RGB").apply(grid))
    return max(high for _, high in cast("tuple[tuple[int, int], ...]", moved.getextrema())) <= _SAME
