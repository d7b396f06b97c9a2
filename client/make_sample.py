"""Makes `client/sample.jpg`: a landscape drawn by numbers, stored turned and with a made-up place in its EXIF block.

The picture is CC0. `python -m client.make_sample` writes the same pixels each time.
"""

import random
from itertools import pairwise
from pathlib import Path

from PIL import Image, ImageChops, ImageDraw, ImageFilter, ImageOps

WIDTH, HEIGHT = 1600, 1067
SEED = 1969
_TURNED_LEFT = 6
"""EXIF orientation: the camera was held upright, viewers turn the picture clockwise."""


def landscape() -> Image.Image:
    """An RGB picture of 1600 x 1067 px: sky with clouds, a sun, five ridges in haze, a meadow."""
    source = random.Random(SEED)
    image = _blend((58, 96, 160), (250, 205, 160), (WIDTH, HEIGHT))
    clouds = _cloud(source, 6).point(lambda value: max(0, value - 120) * 2)
    fading = ImageOps.invert(Image.linear_gradient("L").resize((WIDTH, HEIGHT)))
    image.paste((255, 244, 234), mask=ImageChops.multiply(clouds, fading))
    sun = Image.new("L", (WIDTH, HEIGHT))
    ImageDraw.Draw(sun).ellipse((1080, 330, 1200, 450), fill=255)
    image.paste((255, 236, 190), mask=sun.filter(ImageFilter.GaussianBlur(22)))
    for layer in range(6):
        _ridge(image, source, layer)
    grain = Image.frombytes("L", (WIDTH, HEIGHT), source.randbytes(WIDTH * HEIGHT))
    return Image.blend(image, Image.merge("RGB", (grain,) * 3), 0.03)


def _blend(top: tuple[int, int, int], bottom: tuple[int, int, int], size: tuple[int, int]) -> Image.Image:
    ramp = Image.linear_gradient("L").resize(size, Image.Resampling.BICUBIC)
    return ImageOps.colorize(ramp, top, bottom)


def _cloud(source: random.Random, octaves: int) -> Image.Image:
    """Smooth noise of the size of the picture: random grids of doubling fineness and halving weight."""
    result = Image.new("L", (WIDTH, HEIGHT), 128)
    for octave in reversed(range(octaves)):
        width, height = 3 << octave, 4 << octave
        grid = Image.frombytes("L", (width, height), source.randbytes(width * height))
        result = Image.blend(result, grid.resize((WIDTH, HEIGHT), Image.Resampling.BICUBIC), 0.5)
    return result


def _profile(source: random.Random, points: int, roughness: float) -> list[float]:
    """Heights of a ridge, about -1 to 1, by midpoint displacement."""
    heights, size = [0.0, source.uniform(-0.5, 0.5)], 1.0
    while len(heights) < points:
        middles = [(a + b) / 2 + source.uniform(-size, size) for a, b in pairwise(heights)]
        heights = [value for pair in zip(heights, [*middles, 0.0], strict=True) for value in pair][:-1]
        size *= roughness
    return heights


def _ridge(image: Image.Image, source: random.Random, layer: int) -> None:
    """Draw one ridge, nearer and darker with each layer, with texture."""
    heights = _profile(source, 600, 0.5 if layer < 5 else 0.3)
    base, amplitude = 470 + layer * 95, 130 - layer * 22
    step = WIDTH / (len(heights) - 1)
    line = [(index * step, base + height * amplitude) for index, height in enumerate(heights)]
    mask = Image.new("L", (WIDTH, HEIGHT))
    ImageDraw.Draw(mask).polygon([(0, HEIGHT), *line, (WIDTH, HEIGHT)], fill=255)
    haze = 1 - layer / 5
    light = tuple(round(near + (far - near) * haze) for near, far in zip((96, 128, 52), (178, 168, 186), strict=True))
    dark = tuple(round(near + (far - near) * haze) for near, far in zip((22, 40, 20), (130, 130, 165), strict=True))
    texture = ImageOps.autocontrast(_cloud(source, 8))
    image.paste(ImageOps.colorize(texture, dark, light), mask=mask.filter(ImageFilter.GaussianBlur(0.8)))


def exif() -> Image.Exif:
    """An EXIF block that a service must not publish: a camera, a time, a place."""
    block = Image.Exif()
    block[0x0112] = _TURNED_LEFT
    block[0x010F], block[0x0110] = "imagepipe", "sample camera"
    block.get_ifd(0x8825).update({1: "N", 2: (46.0, 33.0, 27.0), 3: "E", 4: (7.0, 59.0, 6.0)})
    return block


def main() -> None:
    """Write the sample beside this file."""
    stored = landscape().transpose(Image.Transpose.ROTATE_90)
    stored.save(Path(__file__).with_name("sample.jpg"), quality=82, progressive=True, optimize=True, exif=exif())


if __name__ == "__main__":
    main()
