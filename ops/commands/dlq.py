"""`imagepipe dlq`: look at the records that nobody could handle, send them again, or let them go."""

from collections import Counter
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from typing import Annotated

import typer

from ops.connections import producer, run, store
from ops.log.dead_letters import DROPPED, DeadLetter, Filter, redrive, settle, unsettled
from ops.log.positions import parse_time
from ops.terminal.environment import AsJson, DryRun, Root, Yes, load_settings
from ops.terminal.output import Output
from shared.errors import ConfigurationError
from shared.kafka.producer import Producer
from shared.s3.store import S3Store
from shared.settings import Settings

app = typer.Typer(
    no_args_is_help=True,
    help="The dead-letter queue: records that failed in a way nobody foresaw. Mend the cause first, then redrive.",
)

Entries = Annotated[list[str] | None, typer.Argument(help="Entries as `list` names them, such as 3:17.")]
Since = Annotated[str | None, typer.Option(help="That came at or after this time, or within this age (12h).")]
Error = Annotated[str | None, typer.Option(help="Whose error has this text in it.")]
Owner = Annotated[str | None, typer.Option(help="Of this owner, such as user:1.")]
All = Annotated[bool, typer.Option("--all", help="Every entry; needed where nothing else chooses.")]


def register(parent: typer.Typer) -> None:
    """Add the commands."""
    parent.add_typer(app, name="dlq")


@app.command("list")
def list_(
    root: Root = None, as_json: AsJson = False, since: Since = None, error: Error = None, owner: Owner = None
) -> None:
    """List the entries that were neither redriven nor dropped, oldest first."""
    letters = run(unsettled(load_settings(root), _filter(None, since, error, owner)))
    columns = ["entry", "time", "type", "owner", "image_id", "error"]
    Output(as_json).table(columns, [letter.document() for letter in letters])


@app.command()
def show(
    entry: Annotated[str, typer.Argument(help="As `list` names it.")], root: Root = None, as_json: AsJson = False
) -> None:
    """Show one entry whole: reason, stack, headers and record."""
    letters = run(unsettled(load_settings(root), _filter([entry], None, None, None)))
    if not letters:
        raise ConfigurationError(f"the DLQ has no open entry {entry}: see `imagepipe dlq list`")
    letter = letters[0]
    headers = {name: value.decode(errors="replace") for name, value in letter.headers}
    record = letter.content["record"] or (letter.value or b"").decode(errors="replace")
    document = letter.document() | {"stack": headers.pop("dlq-stack", ""), "headers": headers, "record": record}
    lines = [f"{name}: {value}" for name, value in document.items() if name != "stack"]
    Output(as_json).document(document, [*lines, "", str(document["stack"])])


@app.command("redrive")
def redrive_(
    entries: Entries = None,
    root: Root = None,
    as_json: AsJson = False,
    since: Since = None,
    error: Error = None,
    owner: Owner = None,
    everything: All = False,
    dry_run: DryRun = False,
    yes: Yes = False,
) -> None:
    """Send entries to the topic they came from, with the id and the version that they had.

    Deletes and fences take a new version. Commands for deleted images are skipped. Safe to interrupt and repeat.
    """
    settings, output = load_settings(root), Output(as_json)
    chosen = _filter(entries, since, error, owner, everything, must_choose=True)

    async def work(letter: DeadLetter, sender: Producer, bucket: S3Store) -> str:
        return await redrive(letter, settings, sender, bucket)

    run(_settle_all(settings, chosen, "redrive", work, output, dry_run, yes))


@app.command()
def drop(
    entries: Entries = None,
    root: Root = None,
    as_json: AsJson = False,
    since: Since = None,
    error: Error = None,
    owner: Owner = None,
    everything: All = False,
    dry_run: DryRun = False,
    yes: Yes = False,
) -> None:
    """Let entries go unanswered: they are not listed any more, and leave the topic with its retention."""
    settings, output = load_settings(root), Output(as_json)
    chosen = _filter(entries, since, error, owner, everything, must_choose=True)

    async def work(letter: DeadLetter, sender: Producer, _bucket: S3Store) -> str:
        await settle(letter, settings, sender, DROPPED)
        return DROPPED

    run(_settle_all(settings, chosen, "drop", work, output, dry_run, yes))


async def _settle_all(
    settings: Settings,
    chosen: Filter,
    verb: str,
    work: Callable[[DeadLetter, Producer, S3Store], Awaitable[str]],
    output: Output,
    dry_run: bool,
    yes: bool,
) -> None:
    letters = await unsettled(settings, chosen)
    plan = [f"{verb} {letter.name}: {letter.content['type']} {letter.reason}" for letter in letters[:20]]
    if len(letters) > len(plan):
        plan.append(f"... and {len(letters) - len(plan)} more")
    done: Counter[str] = Counter()
    if letters and output.confirmed([*plan, f"{len(letters)} entries."], dry_run=dry_run, yes=yes):
        async with producer(settings) as sender, store(settings) as bucket:
            with output.progress(verb.capitalize(), len(letters)) as advance:
                # One after the other, in the order in which they came: they may be of one image.
                for letter in letters:
                    done[await work(letter, sender, bucket)] += 1
                    advance()
    document = {"matched": len(letters), "entries": [letter.name for letter in letters], **done}
    output.document(document, [f"{len(letters)} entries matched; " + (_counts(done) or "nothing was changed.")])


def _counts(done: Counter[str]) -> str:
    return ", ".join(f"{count} {action}" for action, count in sorted(done.items()))


def _filter(
    names: list[str] | None,
    since: str | None,
    error: str | None,
    owner: str | None,
    everything: bool = False,
    must_choose: bool = False,
) -> Filter:
    if must_choose and not (names or since or error or owner or everything):
        raise ConfigurationError("choose entries by name, --since, --error or --owner, or give --all")
    moment = parse_time(since, datetime.now(UTC)) if since else None
    return Filter(frozenset(names or ()), moment, error, owner)
