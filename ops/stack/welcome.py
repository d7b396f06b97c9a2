"""What `imagepipe up` prints once the stack is ready: the sample photo's sizes, and the addresses to open."""

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rich.console import RenderableType
from rich.padding import Padding
from rich.table import Table

from deploy.local.reporting import Reporter
from deploy.local.state import Root, State

PROJECT = Path(__file__).parents[2]
PHOTO = Path("client") / "sample.jpg"


def welcome(reporter: Reporter, root: Root, state: State, sample: bool, stop: str) -> None:
    """Print what runs and where, how to stop it, and last the page; with `sample`, the photo and its sizes."""
    document = upload_sample(reporter, state.gateway_url) if sample and state.gateway_url else None
    if document is not None:
        reporter.console.print()
        reporter.console.print(Padding(sizes(document), (0, 0, 0, 2), expand=False))
    reporter.say("")
    page = [("Open", f"{state.gateway_url}/")] if state.gateway_url else []
    for name, text in (*addresses(root, state, document), ("Stop", stop), *page):
        reporter.say(f"  {name:<10}  {text}")


def upload_sample(reporter: Reporter, gateway_url: str) -> dict[str, Any] | None:
    """Upload the sample photo with the example client; returns its status document, None after a warning."""
    argv = [sys.executable, "-m", "client.example", "--base-url", gateway_url, "--json", "upload", str(PHOTO)]
    with reporter.step(f"{PHOTO} was uploaded and came back in four sizes"):
        # Ctrl-C must not reach the client: it would print a traceback. It ends once the gateway has ended.
        result = subprocess.run(argv, cwd=PROJECT, capture_output=True, text=True, check=False, start_new_session=True)
        if result.returncode != 0:
            reporter.say(result.stdout + result.stderr)
            reporter.warn(f"The example client ended with exit code {result.returncode}; `imagepipe logs` may say why.")
            return None
    [document] = json.loads(result.stdout)
    return dict(document)


def sizes(document: Mapping[str, Any]) -> RenderableType:
    """The original and its variants: pixels, bytes, and the share of the original's bytes that each saves."""
    table = Table(box=None, padding=(0, 3, 0, 0), pad_edge=False, header_style="dim")
    table.add_column("size")
    for column in ("pixels", "bytes", "saved"):
        table.add_column(column, justify="right")
    original = document["original"]
    rows = [("original", original), *((variant["name"], variant) for variant in document["variants"])]
    for name, picture in rows:
        saved = "" if name == "original" else f"[green]{1 - picture['size'] / original['size']:.0%}[/]"
        table.add_row(name, f"{picture['width']} × {picture['height']}", f"{picture['size']:,}", saved)
    return table


def addresses(root: Root, state: State, document: Mapping[str, Any] | None) -> list[tuple[str, str]]:
    """What to open, and where settings and logs are."""
    lines = []
    if state.gateway_url:
        lines.append(("API", f"{state.gateway_url}/docs"))
        if document is not None:
            lines.append(("Photo", f"{state.gateway_url}/images/{document['image_id']}"))
    lines.append(("Settings", f"{_short(root.env_file)}   (set -a; . {_short(root.env_file)})"))
    lines.append(("Logs", _short(root.logs)))
    return lines


def _short(path: Path) -> str:
    """The path as a shell in this directory can use it."""
    here = Path.cwd()
    return os.path.relpath(path, here) if path.is_relative_to(here) else str(path)
