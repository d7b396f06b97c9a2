"""Downloads that run side by side, and the one line that shows how much of them is left.

Standard library only: the first `make up` shows this line before any package is installed.
"""

import shutil
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import IO

REDRAW_SECONDS = 0.1
PLAIN_SECONDS = 5.0
"""Seconds between two lines where the output is no terminal."""
BAR = 20
"""Characters of the bar."""
TITLE = 64
"""Characters of a step's title, so that the seconds of all steps stand in one column of a terminal of 80."""


@dataclass
class Item:
    """One thing that is downloaded. `total` is None until its size is known; both sizes are in bytes."""

    total: int | None = None
    received: int = 0
    done: bool = False
    doing: str = ""
    """What happens to it after the download, for example `installing Python packages`."""


@dataclass
class Downloads:
    """All items of one start. May be used from several threads."""

    stream: IO[str] = field(default_factory=lambda: sys.stdout)
    clock: Callable[[], float] = time.monotonic

    def __post_init__(self) -> None:
        self.items: dict[str, Item] = {}
        self._lock = threading.Lock()
        self._begin = self.clock()
        self._last_byte = self._begin

    @property
    def received(self) -> int:
        """Bytes that were received so far."""
        return sum(item.received for item in self.items.values())

    @property
    def seconds(self) -> float:
        """Seconds until the last byte that was received."""
        return self._last_byte - self._begin

    def start(self, name: str, total: int | None = None) -> None:
        """Begin an item; its size may follow with `expect`."""
        with self._lock:
            self.items[name] = Item(total)

    def expect(self, name: str, count: int) -> None:
        """Add bytes to the size of an item."""
        with self._lock:
            self.items[name].total = (self.items[name].total or 0) + count

    def receive(self, name: str, count: int) -> None:
        """Count bytes that have arrived."""
        with self._lock:
            self.items[name].received += count
            self._last_byte = self.clock()

    def doing(self, name: str, what: str) -> None:
        """Say what happens to an item after its download."""
        with self._lock:
            self.items[name].doing = what

    def finish(self, name: str) -> None:
        """End an item."""
        with self._lock:
            self.items[name].done = True

    def line(self) -> str:
        """The bar, the bytes that are left, the time that they take at the rate so far, and the names of the items."""
        with self._lock:
            items = dict(self.items)
        known = [item for item in items.values() if item.total is not None]
        total, received = sum(item.total or 0 for item in known), sum(item.received for item in known)
        open_items = [item.doing or name for name, item in items.items() if not item.done]
        filled = min(BAR, BAR * received // total) if total else 0
        bar = "█" * filled + "░" * (BAR - filled) if total else ""
        amount = f"{received / 1e6:.0f} of {total / 1e6:.0f} MB" if total else ""
        left = self._seconds_left(total - received)
        time_left = f"{left:.0f} s left" if left is not None else ""
        return "  ".join(word for word in (bar, amount, time_left, ", ".join(open_items)) if word)

    def _seconds_left(self, count: int) -> float | None:
        elapsed, received = self.clock() - self._begin, self.received
        if count <= 0 or elapsed < 1 or not received:
            return None
        return max(1.0, count * elapsed / received)

    @contextmanager
    def shown(self) -> Iterator[None]:
        """Show the line while the block runs: redrawn on a terminal, repeated every five seconds elsewhere."""
        end = threading.Event()
        draw = self._redraw if self.stream.isatty() else self._repeat
        drawing = threading.Thread(target=draw, args=(end,), name="downloads", daemon=True)
        drawing.start()
        try:
            yield
        finally:
            end.set()
            drawing.join()

    def _redraw(self, end: threading.Event) -> None:
        while not end.wait(REDRAW_SECONDS):
            if any(not item.done for item in self.items.values()):
                # One column is left free: some terminals wrap a line that fills the last one.
                self._write(f"\r  {self.line()}"[: shutil.get_terminal_size().columns - 1] + "\x1b[K")
        self._write("\r\x1b[K")

    def _repeat(self, end: threading.Event) -> None:
        while not end.wait(PLAIN_SECONDS):
            if any(not item.done for item in self.items.values()):
                self._write(f"  {self.line()}\n")

    def _write(self, text: str) -> None:
        self.stream.write(text)
        self.stream.flush()


def finished_step(title: str, seconds: float) -> str:
    """The line of a step that has ended, without colours."""
    return f"✓ {title:<{TITLE}} {seconds:6.1f} s"
