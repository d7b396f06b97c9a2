"""What a command says: its result on stdout, plans and progress on stderr, so that results can be piped."""

import json
import logging
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
"""Exit code of a check that found something, and of a command that could not do its work."""

UNBROKEN = 1000
"""Characters."""


class Advance(Protocol):
    """Says that `count` more are done."""

    def __call__(self, count: int = 1) -> None:
        """Count them."""


class _Rate(ProgressColumn):
    def render(self, task: Task) -> Text:
        speed = task.finished_speed or task.speed
        return Text(f"{speed:,.0f}/s" if speed else "", style="dim")


def quieten_clients() -> None:
    """Hide what the engines' clients log below a critical error: they log each failed attempt while an engine starts.

    Of this software's own log events warnings and errors are shown.
    """
    for name in ("aiokafka", "cassandra", "jgo"):
        logging.getLogger(name).setLevel(logging.CRITICAL)
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.WARNING))


def result_console() -> Console:
    """Where results go: as wide as the terminal is, and without one as wide as anything, so that no cell is broken."""
    return Console(highlight=False, soft_wrap=True, width=None if sys.stdout.isatty() else UNBROKEN)


class Output:
    """Result and progress of one command. With `as_json` stdout holds JSON only."""

    def __init__(self, as_json: bool = False) -> None:
        self.as_json = as_json
        self._out = result_console()
        self._err = Console(stderr=True, highlight=False, soft_wrap=True)

    def say(self, text: str) -> None:
        """A remark beside the result."""
        self._err.print(escape(text))

    def line(self, text: str) -> None:
        """A line of the result."""
        self._out.print(escape(text))

    def document(self, document: Mapping[str, Any] | Sequence[Any], lines: Iterable[str] = ()) -> None:
        """The result: the document as JSON, or the lines for people."""
        if self.as_json:
            typer.echo(json.dumps(document, indent=2, default=str))
            return
        for line in lines:
            self.line(line)

    def table(self, columns: Sequence[str], rows: Sequence[Mapping[str, Any]]) -> None:
        """The result as a table, or as a JSON list of objects. `columns` are the keys that people are shown."""
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
        """One record of an endless result."""
        typer.echo(json.dumps(document, default=str))

    @contextmanager
    def progress(self, title: str, total: int | None) -> Iterator[Advance]:
        """A bar with rate and time left on a terminal, one line at the end elsewhere."""
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
        """Show the plan and say whether to go ahead. Without a terminal only `--yes` does."""
        for line in plan:
            self.say(line)
        if dry_run:
            self.say("Dry run: nothing was changed.")
            return False
        if yes:
            return True
        if not sys.stdin.isatty():
            self.say("Nothing was changed: there is nobody to ask. Give --yes to go ahead, or --dry-run to look only.")
            raise typer.Exit(DIFFERENCES_FOUND)
        return typer.confirm("Go ahead?", err=True)


def _cell(value: Any) -> str:
    if value is None:
        return "-"
    return f"{value:,}" if isinstance(value, int) and not isinstance(value, bool) else str(value)
