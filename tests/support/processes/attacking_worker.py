"""A render worker whose decoder was taken over: it does what the bytes of the image name, inside the real sandbox."""

import os
import socket
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

from processor.rendering import worker
from processor.rendering.render import Part, Rendering, RenderLimits, render
from shared.contract.ladder import Ladder
from shared.errors import ImageRejected

WRITTEN = Path(tempfile.gettempdir()) / "imagepipe-attack"
PARENT = int(sys.argv[1]) if __name__ == "__main__" else os.getpid()


def _wrapped_open() -> object:
    try:
        return Path("/etc/passwd").read_bytes()
    except OSError as error:
        raise ImageRejected("corrupt", "a library that wraps what it caught") from error


ATTACKS: dict[bytes, Callable[[], object]] = {
    b"reads a file": lambda: Path("/etc/passwd").read_bytes(),
    b"reads a file in a library": _wrapped_open,
    b"writes a file": lambda: WRITTEN.write_bytes(b"x"),
    b"lists a folder": lambda: list(Path("/").iterdir()),
    b"reads the environment of its parent": lambda: Path(f"/proc/{PARENT}/environ").read_bytes(),
    b"reads its own environment": lambda: Path("/proc/self/environ").read_bytes(),
    b"opens a socket": lambda: socket.socket().connect(("127.0.0.1", 9)),
    b"opens a unix socket": lambda: socket.socket(socket.AF_UNIX),
    b"starts a program": lambda: subprocess.run(["true"], check=False),
    b"replaces itself": lambda: os.execv("/bin/true", ["true"]),
    b"forks": os.fork,
    b"signals its parent": lambda: os.kill(PARENT, 0),
    b"duplicates a descriptor": lambda: os.dup(1),
    b"takes memory": lambda: bytearray(8 << 30),
    b"ends": lambda: os._exit(0),
}
"""Bytes of the image to what the decoder does with them."""


def attack(data: bytes, ladder: Ladder, limits: RenderLimits, part: Part) -> Rendering:
    """Does what `data` names; renders everything else."""
    if data in ATTACKS:
        ATTACKS[data]()
        raise AssertionError(f"{data.decode()}: nothing stopped it")
    return render(data, ladder, limits, part)


if __name__ == "__main__":
    worker.render = attack  # type: ignore[attr-defined, assignment]
    worker.main()
