"""`imagepipe dlq`: list dead letters, redrive them, or drop them."""

from collections import Counter
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from typing import Annotated

import typer

from ops.connections import producer, run, store
from ops.log.dead_letter_queue import DROPPED, DeadLetter, Filter, redrive, settle, unsettled
from ops.log.positions import parse_time
from ops.settings import load_settings
from ops.terminal.options import AsJson, DeploymentRoot, DryRun, OnlyOwner, Yes
from ops.terminal.output import Output
from shared.contract.keys import Owner
from shared.errors import ConfigurationError, PoisonRecord, RecordTooLarge
from shared.kafka.producer import Producer
from shared.s3.store import S3Store
from shared.settings import Settings

app = typer.Typer(
    no_args_is_help=True,
    help="The dead-letter queue (DLQ): records that a service could not handle. Repair the cause, then redrive them.",
)

Entries = Annotated[list[str] | None, typer.Argument(help="Names of entries as `list` shows them, such as 3:17.")]
Since = Annotated[str | None, typer.Option(help="Only entries since this time, or of this age, such as 12h.")]
Error = Annotated[str | None, typer.Option(help="Only entries whose error contains this text.")]
All = Annotated[bool, typer.Option("--all", help="All entries. Required if nothing else selects entries.")]


def register(parent: typer.Typer) -> None:
    """Add the commands."""
    parent.add_typer(app, name="dlq")


@app.command("list")
def list_(
    root: DeploymentRoot = None,
    as_json: AsJson = False,
    since: Since = None,
    error: Error = None,
    owner: OnlyOwner = None,
) -> None:
    """List the open entries (neither redriven nor dropped), oldest first."""
    letters = run(unsettled(load_settings(root), _filter(None, since, error, owner)))
    columns = ["entry", "time", "type", "owner", "image_id", "error"]
    Output(as_json).table(columns, [letter.document() for letter in letters])


@app.command()
def show(
    entry: Annotated[str, typer.Argument(help="Name of the entry as `list` shows it.")],
    root: DeploymentRoot = None,
    as_json: AsJson = False,
) -> None:
    """Show one entry with its error, stack, headers and record."""
    letters = run(unsettled(load_settings(root), _filter([entry], None, None, None)))
    if not letters:
        raise ConfigurationError(f"the DLQ has no open entry {entry}: see `imagepipe dlq list`")
    letter = letters[0]
    headers = {name: value.decode(errors="replace") for name, value in letter.headers}
    record = letter.content["record"] or (letter.value or b"").decode(errors="replace")
    document = letter.document() | {"stack": headers.pop("dlq-stack", ""), "headers": headers, "record": record}
    lines = [f"{name}: {value}" for name, value in document.items() if name != "stack"]
    Output(as_json).document(document, [*lines, "", str(document["stack"])])


Work = Callable[[DeadLetter, Settings, Producer, S3Store], Awaitable[str]]
"""Function that settles one entry and returns the action."""


def _add_command(verb: str, work: Work, description: str) -> None:
    """Add the command `verb`, which runs `work` on each selected entry. All these commands have the same options."""

    def command(
        entries: Entries = None,
        root: DeploymentRoot = None,
        as_json: AsJson = False,
        since: Since = None,
        error: Error = None,
        owner: OnlyOwner = None,
        everything: All = False,
        dry_run: DryRun = False,
        yes: Yes = False,
    ) -> None:
        if not (entries or since or error or owner or everything):
            raise ConfigurationError("select entries by name, --since, --error or --owner, or use --all")
        choice = _filter(entries, since, error, owner)
        run(_settle_all(load_settings(root), choice, verb, work, Output(as_json), dry_run, yes))

    app.command(verb, help=description)(command)


async def _drop(letter: DeadLetter, settings: Settings, sender: Producer, _bucket: S3Store) -> str:
    await settle(letter, settings, sender, DROPPED)
    return DROPPED


_add_command(
    "redrive",
    redrive,
    "Append entries to their source topics again, with the same ids and versions.\n\n"
    "Deletes and fences get a new version. Commands for deleted images are skipped. You can interrupt and repeat this.",
)
_add_command(
    "drop",
    _drop,
    "Close entries without handling them. They are not listed any more. Retention deletes them from the topic.",
)


async def _settle_all(
    settings: Settings,
    chosen: Filter,
    verb: str,
    work: Work,
    output: Output,
    dry_run: bool,
    yes: bool,
) -> None:
    letters = await unsettled(settings, chosen)
    plan = [f"{verb} {letter.name}: {letter.content['type']} {letter.reason}" for letter in letters[:20]]
    if len(letters) > len(plan):
        plan.append(f"... and {len(letters) - len(plan)} more")
    done: Counter[str] = Counter()
    refused: dict[str, str] = {}
    if letters and output.confirmed([*plan, f"{len(letters)} entries."], dry_run=dry_run, yes=yes):
        async with producer(settings) as sender, store(settings) as bucket:
            with output.progress(verb.capitalize(), len(letters)) as advance:
                # One after the other and in their order, because several may be commands of one image.
                for letter in letters:
                    try:
                        done[await work(letter, settings, sender, bucket)] += 1
                    except (PoisonRecord, RecordTooLarge) as error:
                        refused[letter.name] = str(error)
                    advance()
    document = {"matched": len(letters), "entries": [letter.name for letter in letters], **done, "refused": refused}
    lines = [f"{len(letters)} entries matched; " + (_counts(done) or "nothing was changed.")]
    output.document(document, lines + [f"cannot {verb} {name}: {reason}" for name, reason in refused.items()])


def _counts(done: Counter[str]) -> str:
    return ", ".join(f"{count} {action}" for action, count in sorted(done.items()))


def _filter(names: list[str] | None, since: str | None, error: str | None, owner: Owner | None) -> Filter:
    moment = parse_time(since, datetime.now(UTC)) if since else None
    return Filter(frozenset(names or ()), moment, error, owner)
