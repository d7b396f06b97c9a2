"""What the user sees while a stack starts: its steps with their seconds, and how much is left to download."""

import time
from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.markup import escape

from deploy.local.downloads import TITLE, Downloads


class Reporter:
    """Prints to one console; may be called from several threads."""

    def __init__(self, console: Console) -> None:
        self.console = console

    def say(self, text: str) -> None:
        """One line, unchanged: a URL is not broken, so that a terminal can open it."""
        self.console.print(escape(text), highlight=False, soft_wrap=True)

    def done(self, title: str, seconds: float) -> None:
        """One finished step."""
        self.console.print(f"[green]✓[/] {escape(title):<{TITLE}} [dim]{seconds:6.1f} s[/]", highlight=False)

    def warn(self, text: str) -> None:
        """Something that the user should know."""
        self.console.print(f"[yellow]![/] {escape(text)}", highlight=False)

    @contextmanager
    def step(self, title: str) -> Iterator[None]:
        """Report the step with its time once the block has ended without an error."""
        start = time.monotonic()
        yield
        self.done(title, time.monotonic() - start)

    @contextmanager
    def downloads(self) -> Iterator[Downloads]:
        """Show what is left to download, and report the bytes and seconds if there were any."""
        downloads = Downloads(self.console.file)
        with downloads.shown():
            yield downloads
        if downloads.received:
            self.done(f"Downloaded {downloads.received / 1e6:.0f} MB", downloads.seconds)
