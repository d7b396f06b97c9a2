"""Landscapes that are drawn, for pictures of the page: no photographer has to be asked."""

import math
import random
from io import BytesIO

from PIL import Image, ImageDraw, ImageFilter

PALETTES = (
    ((250, 214, 165), (232, 125, 92), (64, 38, 74)),
    ((214, 232, 240), (108, 156, 178), (22, 52, 72)),
    ((252, 238, 205), (162, 190, 140), (34, 70, 52)),
    ((44, 28, 70), (196, 74, 110), (16, 12, 34)),
    ((255, 224, 214), (226, 138, 150), (88, 44, 84)),
    ((226, 240, 226), (120, 178, 150), (18, 66, 62)),
    ((253, 232, 190), (238, 166, 60), (112, 48, 22)),
    ((200, 218, 246), (92, 118, 196), (24, 26, 74)),
)
"""Sky at the horizon, sky above or the far hills, and the nearest hills."""
SHAPES = ((1600, 1067), (1200, 1500), (1600, 1000), (1500, 1500), (1800, 900), (1600, 1200))
"""Width and height in pixels, as cameras and phones have them."""
Color = tuple[int, int, int]


def mixed(one: Color, other: Color, share: float) -> Color:
    """The colour between two, `share` of the way to the other."""
    red, green, blue = (round(a + (b - a) * share) for a, b in zip(one, other, strict=True))
    return red, green, blue


def scene(seed: int) -> Image.Image:
    """Hills below a sky with a sun or a moon, different for each seed and always the same for one."""
    chance = random.Random(seed)
    light, middle, dark = PALETTES[seed % len(PALETTES)]
    width, height = SHAPES[(seed * 5 + seed // 6) % len(SHAPES)]
    image = Image.new("RGB", (width, height))
    draw = ImageDraw.Draw(image)
    for y in range(height):
        draw.line(((0, y), (width, y)), fill=mixed(middle, light, min(1.0, y / height * 1.6)))
    _sun(image, chance, light)
    draw = ImageDraw.Draw(image)
    layers = chance.randint(4, 6)
    for layer in range(layers):
        share = (layer + 1) / layers
        _hills(draw, image.size, chance, 0.42 + 0.46 * share, mixed(mixed(middle, light, 0.35), dark, share**1.2))
    return _grain(image, chance)


def _sun(image: Image.Image, chance: random.Random, color: Color) -> None:
    width, height = image.size
    x, y, radius = (
        chance.uniform(0.2, 0.8) * width,
        chance.uniform(0.2, 0.42) * height,
        chance.uniform(0.05, 0.1) * width,
    )
    glow = Image.new("L", (width // 4, height // 4))
    at, size = (x / 4, y / 4), radius / 4
    ImageDraw.Draw(glow).ellipse((at[0] - 2 * size, at[1] - 2 * size, at[0] + 2 * size, at[1] + 2 * size), fill=150)
    soft = glow.filter(ImageFilter.GaussianBlur(size)).resize(image.size)
    bright = mixed(color, (255, 255, 255), 0.6)
    image.paste(Image.new("RGB", image.size, bright), mask=soft)
    ImageDraw.Draw(image).ellipse((x - radius, y - radius, x + radius, y + radius), fill=bright)


def _hills(draw: ImageDraw.ImageDraw, size: tuple[int, int], chance: random.Random, level: float, color: Color) -> None:
    width, height = size
    waves = [(chance.uniform(0.6, 1.2) * 2.1**n, chance.uniform(0, 6.3), 0.085 / 1.9**n) for n in range(6)]

    def ridge(x: int) -> float:
        rise = sum(math.sin(x / width * 6.3 * wave + phase) * depth for wave, phase, depth in waves)
        return (level + rise) * height

    points = [(x, ridge(x)) for x in range(0, width + 4, 4)]
    draw.polygon([(0, height), *points, (width, height)], fill=color)


def _grain(image: Image.Image, chance: random.Random) -> Image.Image:
    """With a little noise, so that the files are as large as photos."""
    noise = Image.effect_noise(image.size, 26).convert("RGB")
    return Image.blend(image, noise, 0.035 + chance.random() * 0.02)


def jpeg(seed: int) -> bytes:
    """The scene as a JPEG file."""
    buffer = BytesIO()
    scene(seed).save(buffer, "JPEG", quality=88)
    return buffer.getvalue()
