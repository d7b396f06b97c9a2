"""Pictures of the README's first screen, from a real start: what `make up` prints, and the sample photo's four sizes.

`python -m docs.generate.first_run --root DIRECTORY` starts a stack there, uploads the sample photo, writes make-up.svg
and sample-sizes.webp into docs/pictures or into `--output`, and stops the stack.
"""

import argparse
import io
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
from PIL import Image
from rich.text import Text

from deploy.local.state import Root
from docs.generate.pictures import PICTURES, picture

COLUMNS = 80
SCALE = 0.3
"""Of the photo on the sheet: four sizes side by side are as wide as a page."""
GAP = 16
ROOT_SHOWN = ".imagepipe"
"""A reader's `make up` has this root, also if the picture was made in another directory."""


@contextmanager
def started(root: Path) -> Iterator[str]:
    """What a start with the sample photo prints, with the control sequences of a terminal."""
    argv = [sys.executable, "-m", "ops.cli", "up", "--sample", "--root", str(root)]
    env = {**os.environ, "FORCE_COLOR": "1", "COLUMNS": str(COLUMNS)}
    lines: list[str] = []
    with subprocess.Popen(argv, env=env, stdout=subprocess.PIPE, text=True) as start:
        for line in start.stdout or ():
            lines.append(line)
            if line.startswith("  Open"):
                yield "".join(lines)
                start.terminate()
                break
        start.communicate()


def terminal(output: str, root: Path) -> Text:
    """The output as a reader of the README sees it: after the command, with the usual root."""
    return Text.from_ansi("$ make up\n" + re.sub(re.escape(str(root)), ROOT_SHOWN, output))


def sheet(gateway_url: str, image_id: str) -> Image.Image:
    """The four variants side by side at one scale, the smallest last. White lies between them."""
    variants: list[Image.Image] = []
    for name in ("full", "large", "medium", "small"):
        answer = httpx.get(f"{gateway_url}/images/{image_id}", params={"variant": name}, trust_env=False)
        answer.raise_for_status()
        variant: Image.Image = Image.open(io.BytesIO(answer.content))
        variants.append(variant.resize((round(variant.width * SCALE), round(variant.height * SCALE))))
    width = sum(variant.width for variant in variants) + GAP * (len(variants) - 1)
    height = max(variant.height for variant in variants)
    page, left = Image.new("RGB", (width, height), "white"), 0
    for variant in variants:
        page.paste(variant.convert("RGB"), (left, height - variant.height))
        left += variant.width + GAP
    return page


def main() -> None:
    """Start, make both pictures, stop."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--root", type=Path, required=True)
    parser.add_argument("--output", type=Path, default=PICTURES)
    arguments = parser.parse_args()
    root = arguments.root.absolute()
    with started(root) as output:
        state = Root(root).load()
        assert state is not None
        assert state.gateway_url is not None
        [image] = httpx.get(f"{state.gateway_url}/images", params={"limit": 1}, trust_env=False).json()
        page = sheet(state.gateway_url, image["image_id"])
    picture(arguments.output / "make-up.svg", "make up", terminal(output, root), COLUMNS)
    page.save(arguments.output / "sample-sizes.webp", quality=75, method=6)


if __name__ == "__main__":
    main()
