"""The parts' output: in files of bounded size, and in the foreground with a coloured prefix."""

import asyncio
import logging
import re
import threading
from collections.abc import Callable
from logging.handlers import RotatingFileHandler
from pathlib import Path

from rich.console import Console
from rich.text import Text

from deploy.local.topology import kind_of

LIMIT = 8 * 1024 * 1024
"""Bytes of one log file; two older ones are kept, so a part's logs never take more than 24 MiB."""

LONGEST_LINE = 64 * 1024
"""A longer line is cut into pieces, so that a part cannot fill the supervisor's memory."""

ALARMING = re.compile(r"\b(WARN(ING)?|ERROR|FATAL|CRITICAL|SEVERE)\b|Exception|Traceback")

COLOURS = {
    "kafka": "yellow", "cassandra": "magenta", "s3": "blue",
    "gateway": "green", "processor": "cyan", "indexer": "bright_blue",
}  # fmt: skip

Sink = Callable[[str, str, bool], None]
"""Takes a part's name, a line, and whether the part is a quiet one."""


class LogFile:
    """One part's log file, rotated at `LIMIT`."""

    def __init__(self, path: Path) -> None:
        self._handler = RotatingFileHandler(path, maxBytes=LIMIT, backupCount=2, encoding="utf-8", errors="replace")
        self._handler.setFormatter(logging.Formatter("%(message)s"))

    def write(self, line: str) -> None:
        """Append a line."""
        self._handler.emit(logging.LogRecord("", logging.INFO, "", 0, "%s", (line,), None))

    def close(self) -> None:
        """Close the file."""
        self._handler.close()


async def pump(stream: asyncio.StreamReader, write: Callable[[str], None]) -> None:
    """Pass the stream's lines on until its end."""
    rest = b""
    while chunk := await stream.read(LONGEST_LINE):
        *lines, rest = (rest + chunk).split(b"\n")
        for line in lines:
            write(line.decode(errors="replace").rstrip("\r"))
        if len(rest) > LONGEST_LINE:
            write(rest.decode(errors="replace"))
            rest = b""
    if rest:
        write(rest.decode(errors="replace"))


class ConsoleSink:
    """Shows lines with their part's name; of quiet parts only warnings and errors."""

    def __init__(self, console: Console, *, hidden: bool = False) -> None:
        self._console = console
        self._lock = threading.Lock()
        self._hidden = hidden

    def reveal(self) -> None:
        """Show lines from now on. While a stack starts, only the steps are shown; the files have all lines."""
        self._hidden = False

    def show(self, part: str, line: str, quiet: bool) -> None:
        """Print a line, or omit it."""
        if self._hidden or (quiet and not ALARMING.search(line)):
            return
        text = Text(f"{part:<12}│ ", style=COLOURS.get(kind_of(part), "white"))
        # Services colour their own lines; from_ansi keeps that and drops other control sequences.
        text.append_text(Text.from_ansi(line))
        with self._lock:
            self._console.print(text, soft_wrap=True, highlight=False)


def tail(path: Path, lines: int) -> list[str]:
    """The last lines of a log; empty if there is none yet."""
    try:
        with path.open("rb") as file:
            file.seek(0, 2)
            file.seek(max(0, file.tell() - lines * 400))
            return file.read().decode(errors="replace").splitlines()[-lines:]
    except FileNotFoundError:
        return []
