"""The static files of the page, read into memory once."""

import hashlib
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from importlib.resources.abc import Traversable

MEDIA_TYPES = {"html": "text/html; charset=utf-8", "css": "text/css; charset=utf-8",
               "js": "text/javascript; charset=utf-8", "svg": "image/svg+xml"}  # fmt: skip
INDEX = "index.html"
ASSETS = "web/"
"""Where the page finds its other files, relative to its own URL, so that it also works under a prefix of a proxy."""


@dataclass(frozen=True)
class StaticFile:
    """A file of the page. `etag` is a digest of its content."""

    content: bytes
    media_type: str
    etag: str


@dataclass(frozen=True)
class StaticFiles:
    """The page `index` and its other files by name. `version` is a digest of all of them.

    The page loads its files from `web/{version}/`, and modules import each other by relative URLs. So a browser may
    keep each of them permanently, and never combines files of two versions.
    """

    index: StaticFile
    assets: dict[str, StaticFile]
    version: str


@cache
def static_files() -> StaticFiles:
    """The files in the folder `static` of this package."""
    folder = files(__package__) / "static"
    found = {entry.name: entry.read_bytes() for entry in sorted(folder.iterdir(), key=_name) if _is_file(entry)}
    version = _digest(b"".join(name.encode() + content for name, content in found.items()))
    index = found.pop(INDEX).replace(f'"{ASSETS}'.encode(), f'"{ASSETS}{version}/'.encode())
    assets = {name: _static_file(name, content) for name, content in found.items()}
    return StaticFiles(_static_file(INDEX, index), assets, version)


def _name(entry: Traversable) -> str:
    return entry.name


def _is_file(entry: Traversable) -> bool:
    return entry.name.rpartition(".")[2] in MEDIA_TYPES


def _static_file(name: str, content: bytes) -> StaticFile:
    return StaticFile(content, MEDIA_TYPES[name.rpartition(".")[2]], _digest(content))


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()[:16]
