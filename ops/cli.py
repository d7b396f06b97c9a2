"""The `imagepipe` command: which module has which sub-command, and what all of them share."""

import logging
import sys
from importlib import import_module
from typing import Any

import structlog
import typer
from rich.console import Console
from rich.markup import escape
from typer.core import TyperGroup

from shared.errors import ImagepipeError

MODULES = {
    "up": "up", "down": "up", "status": "status", "logs": "logs", "init": "init",
    "lag": "lag", "tail": "tail", "verify": "verify",
    "topics": "topics", "schema": "schema", "dlq": "dlq",
    "gc": "gc", "reindex": "reindex", "replay": "replay", "reprocess": "reprocess", "erase": "erase",
}  # fmt: skip
"""Module of each command, in the order of the help: the stack, what looks, what works on the log, what repairs."""


class Commands(TyperGroup):
    """The commands, each imported when it is asked for: `up` and `status` need not wait for clients of all engines."""

    def list_commands(self, ctx: Any) -> list[str]:
        """Their names, in the order of the help."""
        return list(MODULES)

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        """The command of this name; None where there is none."""
        if cmd_name not in MODULES:
            return None
        own = typer.Typer()
        import_module(f"ops.commands.{MODULES[cmd_name]}").register(own)
        return typer.main.get_group(own).commands[cmd_name]


app = typer.Typer(
    name="imagepipe",
    cls=Commands,
    no_args_is_help=True,
    rich_markup_mode="rich",
    pretty_exceptions_show_locals=False,
    help="Run and look after an imagepipe.\n\n"
    "[bold]First steps[/]: [cyan]imagepipe up[/] starts real Kafka, Cassandra and S3 on this machine, without Docker, "
    "and the three services on top; [cyan]imagepipe status[/] shows them from another terminal; Ctrl-C ends them. "
    "Data stays until [cyan]imagepipe down --delete-data[/].",
)


@app.callback()
def imagepipe() -> None:
    """What all commands share: nothing. It makes a group of them."""


def main() -> None:
    """Run the command; errors raised on purpose are shown as their sentence, with exit code 1."""
    # Clients of engines that are just starting complain aloud; the commands say what matters.
    for name in ("aiokafka", "cassandra", "jgo"):
        logging.getLogger(name).setLevel(logging.CRITICAL)
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.WARNING))
    try:
        app()
    except ImagepipeError as error:
        Console(stderr=True).print(f"[red]✗[/] {escape(str(error))}", highlight=False, soft_wrap=True)
        sys.exit(1)


if __name__ == "__main__":
    main()
