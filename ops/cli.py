"""The `imagepipe` command: its sub-commands, each a module of that name, and the handling of their errors."""

import sys
from importlib import import_module
from typing import Any

import typer
from rich.console import Console
from rich.markup import escape
from typer.core import TyperGroup

from ops.terminal.output import quieten_clients
from shared.errors import ImagepipeError

COMMANDS = (
    "up", "down", "status", "logs", "init",
    "lag", "tail", "verify",
    "topics", "schema", "dlq",
    "gc", "reindex", "replay", "reprocess", "erase",
)  # fmt: skip
"""Each is a module of `ops.commands`. In the order of the help: the stack, what only reads, the log, what repairs."""


class Commands(TyperGroup):
    """The commands, each imported when it is asked for: `up` and `status` need not wait for clients of all engines."""

    def list_commands(self, ctx: Any) -> list[str]:
        """Their names, in the order of the help."""
        return list(COMMANDS)

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        """The command of this name; None where there is none."""
        if cmd_name not in COMMANDS:
            return None
        own = typer.Typer()
        import_module(f"ops.commands.{cmd_name}").register(own)
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
    quieten_clients()
    try:
        app()
    except ImagepipeError as error:
        Console(stderr=True).print(f"[red]✗[/] {escape(str(error))}", highlight=False, soft_wrap=True)
        sys.exit(1)


if __name__ == "__main__":
    main()
