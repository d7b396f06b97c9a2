"""The command `imagepipe`: finds the module of a sub-command, runs it, and prints its errors."""

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
    "lag", "tail", "events", "verify",
    "topics", "schema", "dlq",
    "gc", "reindex", "replay", "reprocess", "erase",
)  # fmt: skip
"""Names of the sub-commands; each has a module in `ops.commands`. In the order of the help: local stack and set-up,
commands that only read, the log, repairs."""


class Commands(TyperGroup):
    """Imports a sub-command when it is used, so that `up` and `status` do not load the clients of all engines."""

    def list_commands(self, ctx: Any) -> list[str]:
        """Names of the commands, in the order of the help."""
        return list(COMMANDS)

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        """The command with this name; None if there is none."""
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
    help="Run and operate imagepipe.\n\n"
    "[bold]First steps[/]: [cyan]imagepipe up[/] starts Kafka, Cassandra, an S3 store and the three services on this "
    "machine, without Docker. [cyan]imagepipe status[/] in another terminal shows them. Ctrl-C stops them. The data is "
    "kept until [cyan]imagepipe down --delete-data[/].",
)


@app.callback()
def imagepipe() -> None:
    """Make a group of the commands. There are no common options."""


def main() -> None:
    """Run a command. An ImagepipeError is printed as its message, without a stack, and gives exit code 1."""
    quieten_clients()
    try:
        app()
    except ImagepipeError as error:
        Console(stderr=True).print(f"[red]✗[/] {escape(str(error))}", highlight=False, soft_wrap=True)
        sys.exit(1)


if __name__ == "__main__":
    main()
