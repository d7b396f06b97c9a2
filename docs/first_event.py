"""Runs the code blocks of "Your first event" in docs/events.md word by word, and measures the time of each.

`python -m docs.first_event` copies the last commit to a new directory, so the time includes the installation there.
Downloads come from the caches of uv and of the local stack, if they are there. The port 8000 must be free.
"""

import os
import re
import signal
import socket
import subprocess
import sys
import tarfile
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from io import BytesIO
from pathlib import Path

from shared.errors import ConfigurationError, ImagepipeError

PAGE = Path(__file__).with_name("events.md")
PORT = 8000
STACK_READY = re.compile(r"^  Stop +")
STOP_SECONDS = 120.0


def blocks(page: str) -> tuple[str, tuple[str, str], str, str]:
    """The start of the stack, the consumer's file name and source, the command that runs it, and the upload.

    Raises ConfigurationError if the section has another form.
    """
    section = page.partition("## Your first event\n")[2].partition("\n## ")[0]
    found = re.findall(r"```(\w+)\n(.*?)```", section, re.DOTALL)
    name = re.search(r"^Save this as `([\w.]+)`:$", section, re.MULTILINE)
    if name is None or [kind for kind, _ in found] != ["sh", "python", "sh", "sh"]:
        raise ConfigurationError(f"{PAGE.name} no longer has the four blocks of a first event")
    start, source, consume, upload = (text for _, text in found)
    return start, (name[1], source), consume, upload


@contextmanager
def shell(block: str, directory: Path) -> Iterator[Iterator[str]]:
    """The lines that a block prints in a shell of its own, which is ended as by Ctrl-C."""
    child = subprocess.Popen(
        ["bash", "-ec", block], cwd=directory, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT, text=True, start_new_session=True,
    )  # fmt: skip
    try:
        yield iter(child.stdout or ())
    finally:
        with suppress(ProcessLookupError):
            os.killpg(child.pid, signal.SIGINT)
        child.communicate(timeout=STOP_SECONDS)


def wait_line(lines: Iterator[str], pattern: re.Pattern[str]) -> str:
    """The first line that matches. Raises ImagepipeError with all lines if the shell ends before."""
    seen = []
    for line in lines:
        if pattern.search(line):
            return line.rstrip()
        seen.append(line)
    raise ImagepipeError("the block ended without the expected line:\n" + "".join(seen))


def copy_sources(directory: Path) -> None:
    """The files of the last commit."""
    archive = subprocess.run(["git", "archive", "HEAD"], cwd=PAGE.parents[1], capture_output=True, check=True).stdout
    with tarfile.open(fileobj=BytesIO(archive)) as files:
        files.extractall(directory, filter="data")


def measure(directory: Path) -> None:
    """Run the blocks in this directory, and print what they took."""
    start, (name, source), consume, upload = blocks((directory / "docs" / "events.md").read_text())
    began = time.monotonic()
    with shell(start, directory) as stack:
        wait_line(stack, STACK_READY)
        print(f"{time.monotonic() - began:6.1f} s  {start.strip()}: everything runs", flush=True)
        (directory / name).write_text(source)
        with shell(consume, directory) as events:
            first = wait_line(events, re.compile(r"^image\.ready "))
            print(f"{time.monotonic() - began:6.1f} s  {name} prints its first event: {first}", flush=True)
            uploaded = time.monotonic()
            subprocess.run(["bash", "-ec", upload], cwd=directory, check=True, capture_output=True)
            second = wait_line(events, re.compile(r"^image\.ready "))
            print(f"{time.monotonic() - uploaded:6.1f} s  from the upload to its second event: {second}", flush=True)


def main() -> None:
    """Measure in a new copy of the sources. Raises ConfigurationError if the port is in use."""
    with socket.socket() as probe:
        if probe.connect_ex(("127.0.0.1", PORT)) == 0:
            raise ConfigurationError(f"port {PORT}, which the page names, is in use")
    with tempfile.TemporaryDirectory(prefix="imagepipe-first-event-") as directory:
        copy_sources(Path(directory))
        measure(Path(directory))


if __name__ == "__main__":
    try:
        main()
    except ImagepipeError as error:
        sys.exit(f"✗ {error}")
