"""What stands in for a picture while it loads: its ThumbHash and its dominant colour. Pure."""

import base64

from PIL import Image
from thash import rgba_to_thumb_hash_pure

THUMB_SIDE = 32
"""Pixels of the longer side that the hash is made from. It keeps at most 7 x 7 frequencies, for which 32 are plenty;
its loops are plain Python: 100 px, the algorithm's limit, would take ten times as long."""

_COLORS = 6
_OPAQUE = 128


def thumbnail(image: Image.Image) -> Image.Image:
    """The RGB or RGBA image as RGBA of at most 32 x 32 px, with the aspect kept as far as whole pixels allow."""
    width, height = image.size
    scale = min(1.0, THUMB_SIDE / max(width, height))
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    return image.resize(size, Image.Resampling.BOX).convert("RGBA")


def thumbhash(thumb: Image.Image) -> str:
    """ThumbHash (base64) of an RGBA thumbnail."""
    # The pure encoder even where numpy is installed, so that the same image has the same hash everywhere.
    return base64.b64encode(bytes(rgba_to_thumb_hash_pure(thumb.width, thumb.height, list(thumb.tobytes())))).decode()


def dominant_color(thumb: Image.Image) -> str:
    """`#rrggbb` of the largest group of similar colours (median cut) among the visible pixels; white if none is."""
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
