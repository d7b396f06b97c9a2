"""Files to upload: a path, bytes or an open file, as a multipart form."""

from collections.abc import Sequence
from os import PathLike
from pathlib import Path
from typing import BinaryIO, NamedTuple

import httpx

from imagepipe_client.steps import Body, Progress

Source = str | PathLike[str] | bytes | BinaryIO
"""A path, the bytes themselves, or a file that is open for reading."""
UNNAMED = "image"


class File(NamedTuple):
    """The bytes of a file and the name that people see."""

    name: str
    content: bytes


def read_file(source: Source | File, name: str | None = None) -> File:
    """Read a file into memory, so that a retry sends the same bytes; the gateway accepts 5 MiB. Raises OSError."""
    match source:
        case File():
            return source if name is None else source._replace(name=name)
        case bytes():
            return File(name or UNNAMED, source)
        case str() | PathLike():
            path = Path(source)
            return File(name or path.name, path.read_bytes())
    own = getattr(source, "name", None)
    return File(name or (Path(own).name if isinstance(own, str) else UNNAMED), source.read())


def read_files(sources: Sequence[Source | File]) -> list[File]:
    """Read all files into memory. Raises OSError."""
    return [read_file(source) for source in sources]


def form(files: Sequence[File], progress: Progress | None) -> tuple[dict[str, str], Body]:
    """Headers and body of the multipart form of these files, in this order."""
    request = httpx.Request("POST", "http://form", files=[("image", (file.name, file.content)) for file in files])
    return {"Content-Type": request.headers["Content-Type"]}, Body(request.read(), progress)
