"""Output of a command: the result on stdout; plans and progress on stderr, so that the result can be piped."""

import json
import logging
import signal
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Protocol

import structlog
import typer
from rich.console import Console
from rich.markup import escape
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    SpinnerColumn,
    Task,
    TextColumn,
    TimeRemainingColumn,
)
from rich.table import Table
from rich.text import Text

DIFFERENCES_FOUND = 1
"""Exit code of a check that found differences, and of a command that failed."""

UNBROKEN = 1000
"""Width in characters of output that does not go to a terminal."""


class Advance(Protocol):
    """Function that adds `count` finished items to a progress bar."""

    def __call__(self, count: int = 1) -> None:
        """Add finished items."""


class _Rate(ProgressColumn):
    def render(self, task: Task) -> Text:
        speed = task.finished_speed or task.speed
        return Text(f"{speed:,.0f}/s" if speed else "", style="dim")


def quieten_clients() -> None:
    """Hide the logs of the engines' clients below the level CRITICAL: they log each failed attempt to connect.

    Of the log events of this software only warnings and errors are shown.
    """
    for name in ("aiokafka", "cassandra", "jgo"):
        logging.getLogger(name).setLevel(logging.CRITICAL)
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.WARNING))


def result_console() -> Console:
    """The console for results. Without a terminal it is UNBROKEN characters wide, so that no table cell is wrapped."""
    return Console(highlight=False, soft_wrap=True, width=None if sys.stdout.isatty() else UNBROKEN)


class Output:
    """Prints the result and the progress of a command. With `as_json` it prints only JSON to stdout."""

    def __init__(self, as_json: bool = False) -> None:
        self.as_json = as_json
        self._out = result_console()
        self._err = Console(stderr=True, highlight=False, soft_wrap=True)

    def say(self, text: str) -> None:
        """Print a message to stderr."""
        self._err.print(escape(text))

    def line(self, text: str) -> None:
        """Print a line of the result."""
        self._out.print(escape(text))

    def document(self, document: Mapping[str, Any] | Sequence[Any], lines: Iterable[str] = ()) -> None:
        """Print the result: the document as JSON, or the lines for people."""
        if self.as_json:
            typer.echo(json.dumps(document, indent=2, default=str))
            return
        for line in lines:
            self.line(line)

    def table(self, columns: Sequence[str], rows: Sequence[Mapping[str, Any]]) -> None:
        """Print the result as a table, or as a JSON list of objects. `columns` are the keys that the table shows."""
        if self.as_json:
            typer.echo(json.dumps(list(rows), indent=2, default=str))
            return
        table = Table(box=None, pad_edge=False)
        for column in columns:
            numeric = bool(rows) and all(isinstance(row.get(column), int | float) for row in rows)
            table.add_column(column, justify="right" if numeric else "left", overflow="fold")
        for row in rows:
            table.add_row(*(escape(_cell(row.get(column))) for column in columns))
        self._out.print(table)

    def json_line(self, document: Mapping[str, Any]) -> None:
        """Print one record of a result as a line of JSON."""
        typer.echo(json.dumps(document, default=str))

    @contextmanager
    def progress(self, title: str, total: int | None) -> Iterator[Advance]:
        """Show a progress bar with rate and remaining time. Without a terminal print only one line at the end."""
        columns = (
            SpinnerColumn(), TextColumn("{task.description}"), BarColumn(bar_width=24), MofNCompleteColumn(), _Rate(),
            TimeRemainingColumn(),
        )  # fmt: skip
        with Progress(*columns, console=self._err, transient=True, disable=not self._err.is_terminal) as bars:
            task = bars.add_task(title, total=total)

            def advance(count: int = 1) -> None:
                bars.advance(task, count)

            yield advance
            finished = bars.tasks[0]
            seconds = finished.elapsed or 0.0
        done = int(finished.completed)
        self.say(f"{title}: {done:,} in {seconds:.1f} s" + (f" ({done / seconds:,.0f}/s)" if seconds else ""))

    def confirmed(self, plan: Iterable[str], *, dry_run: bool, yes: bool) -> bool:
        """Show the plan, ask for confirmation, and return the answer. Without a terminal only `--yes` confirms."""
        for line in plan:
            self.say(line)
        if dry_run:
            self.say("Dry run: nothing was changed.")
            return False
        if yes:
            return True
        if not sys.stdin.isatty():
            self.say(
                "Nothing was changed: without a terminal use --yes to continue, or --dry-run to see the plan only."
            )
            raise typer.Exit(DIFFERENCES_FOUND)
        with _ctrl_c_raises():
            return typer.confirm("Continue?", err=True)


@contextmanager
def _ctrl_c_raises() -> Iterator[None]:
    """Within the block Ctrl-C raises KeyboardInterrupt: the event loop cannot handle it while it waits for a person."""
    usual = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, usual)


def _cell(value: Any) -> str:
    if value is None:
        return "-"
    return f"{value:,}" if isinstance(value, int) and not isinstance(value, bool) else str(value)
