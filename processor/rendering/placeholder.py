"""The placeholder that pages show while an image loads: its ThumbHash and its dominant colour. Pure functions."""

import base64

from PIL import Image
from thash import rgba_to_thumb_hash_pure

THUMB_SIDE = 32
"""Longer side in pixels of the thumbnail from which the hash is computed. The hash has at most 7 x 7 frequencies, for
which 32 px are enough. The encoder is plain Python: 100 px, its limit, would take ten times as long."""

_COLORS = 6
_OPAQUE = 128


def thumbnail(image: Image.Image) -> Image.Image:
    """Scale an RGB or RGBA image to RGBA of at most 32 x 32 px. The aspect ratio is kept, rounded to whole pixels."""
    width, height = image.size
    scale = min(1.0, THUMB_SIDE / max(width, height))
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    return image.resize(size, Image.Resampling.BOX).convert("RGBA")


def thumbhash(thumb: Image.Image) -> str:
    """ThumbHash (base64) of an RGBA thumbnail."""
    # The encoder without numpy is used even if numpy is installed, so that an image has the same hash everywhere.
    return base64.b64encode(bytes(rgba_to_thumb_hash_pure(thumb.width, thumb.height, list(thumb.tobytes())))).decode()


def dominant_color(thumb: Image.Image) -> str:
    """The colour, as `#rrggbb`, of the largest group of similar visible pixels (median cut).

    It is white if no pixel is visible.
    """
    raw = thumb.tobytes()
    visible = b"".join(raw[i : i + 3] for i in range(0, len(raw), 4) if raw[i + 3] >= _OPAQUE)
    if not visible:
        return "#ffffff"
    pixels = Image.frombytes("RGB", (len(visible) // 3, 1), visible)
    groups = pixels.quantize(_COLORS, method=Image.Quantize.MEDIANCUT, dither=Image.Dither.NONE).convert("RGB")
    counts = groups.getcolors(maxcolors=len(visible)) or []
    _, color = max(counts, key=lambda entry: (entry[0], entry[1]))
    red, green, blue = color if isinstance(color, tuple) else (color,) * 3
    return f"#{int(red):02x}{int(green):02x}{int(blue):02x}"
