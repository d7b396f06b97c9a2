"""The `imagepipe` command. Each module below adds its own sub-commands."""

import logging
import sys

import structlog
import typer
from rich.console import Console
from rich.markup import escape

from ops import (
    backlog,
    dlq,
    erase,
    gc,
    init,
    logs,
    reindex,
    replay,
    reprocess,
    schema,
    stack,
    status,
    tail,
    topics,
    verify,
)
from shared.errors import ImagepipeError

app = typer.Typer(
    name="imagepipe",
    no_args_is_help=True,
    rich_markup_mode="rich",
    pretty_exceptions_show_locals=False,
    help="Run and look after an imagepipe.\n\n"
    "[bold]First steps[/]: [cyan]imagepipe up[/] starts real Kafka, Cassandra and S3 on this machine, without Docker, "
    "and the three services on top; [cyan]imagepipe status[/] shows them from another terminal; Ctrl-C ends them. "
    "Data stays until [cyan]imagepipe down --delete-data[/].",
)

LOOK = (backlog, tail, verify)
LOG = (topics, schema, dlq)
REPAIR = (gc, reindex, replay, reprocess, erase)

for module in (stack, status, logs, init, *LOOK, *LOG, *REPAIR):
    module.register(app)


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
