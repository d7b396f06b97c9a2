"""What the user sees while a stack starts: steps with their time, and progress of one-time downloads and builds."""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, DownloadColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

PLAIN_INTERVAL = 5.0
"""Seconds between two progress lines where the output is no terminal."""

Advance = Callable[[int, str], None]
"""Tells a progress bar how many bytes more there are, and what is being worked on."""


class Reporter:
    """Prints to one console; may be called from several threads."""

    def __init__(self, console: Console) -> None:
        self.console = console

    def say(self, text: str) -> None:
        """One line, as it is: URLs are not broken, so that they can be followed."""
        self.console.print(escape(text), highlight=False, soft_wrap=True)

    def done(self, title: str, seconds: float) -> None:
        """One finished step."""
        self.console.print(f"[green]✓[/] {escape(title):<64} [dim]{seconds:6.1f} s[/]", highlight=False)

    def warn(self, text: str) -> None:
        """Something that the user should know."""
        self.console.print(f"[yellow]![/] {escape(text)}", highlight=False)

    @contextmanager
    def step(self, title: str) -> Iterator[None]:
        """Report the step with its time once the block has ended well."""
        start = time.monotonic()
        yield
        self.done(title, time.monotonic() - start)

    @contextmanager
    def one_time_work(self) -> Iterator["OneTimeWork"]:
        """Show progress of downloads and builds, as bars on a terminal and as lines elsewhere."""
        work = OneTimeWork(self)
        if not self.console.is_terminal:
            yield work
            return
        with Progress(
            SpinnerColumn(),
            TextColumn("{task.description:<12}"),
            BarColumn(bar_width=24),
            DownloadColumn(),
            TimeElapsedColumn(),
            TextColumn("[dim]{task.fields[now]}"),
            console=self.console,
            transient=True,
        ) as bars:
            work.bars = bars
            yield work


class OneTimeWork:
    """Progress of several things that are fetched or built at once."""

    def __init__(self, reporter: Reporter) -> None:
        self.bars: Progress | None = None
        self._reporter = reporter
        self._lock = threading.Lock()

    @contextmanager
    def item(self, name: str, total: int | None) -> Iterator[Advance]:
        """Progress of one item; `total` in bytes, or None where that is not known beforehand."""
        start = time.monotonic()
        if self.bars is None:
            yield self._plain(name, total)
        else:
            bars = self.bars
            task = bars.add_task(name, total=total, now="")
            try:
                yield lambda count, now: bars.update(task, advance=count, now=now[-48:])
            finally:
                bars.remove_task(task)
        self._reporter.done(name, time.monotonic() - start)

    def _plain(self, name: str, total: int | None) -> Advance:
        done, last = 0, time.monotonic()

        def advance(count: int, now: str) -> None:
            nonlocal done, last
            with self._lock:
                done += count
                if time.monotonic() - last < PLAIN_INTERVAL:
                    return
                last = time.monotonic()
            amount = f"{done / 1e6:.0f} of {total / 1e6:.0f} MB" if total else ""
            self._reporter.say(f"  {name}: {amount or now}")

        return advance
