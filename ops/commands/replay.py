"""`imagepipe replay`: handle commands of the log again, during live traffic."""

from collections import Counter
from collections.abc import Sequence
from typing import Annotated, Any
from uuid import UUID

import typer

from ops.connections import producer, run, store
from ops.log.positions import HELP, start_offsets
from ops.log.reader import TopicReader
from ops.replaying.finished import Asked, unfinished
from ops.replaying.replayer import PoolRenderer, Replayed, Scope, handle_again, scan
from ops.settings import load_settings
from ops.terminal.options import AsJson, DeploymentRoot, DryRun, OnlyOwner, Yes
from ops.terminal.output import DIFFERENCES_FOUND, Output
from processor.handler import Handler
from shared.kafka.writers import KafkaEventLog
from shared.settings import Settings, Topic


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command()(replay)


def replay(
    start: Annotated[str, typer.Option("--from", help=HELP)],
    root: DeploymentRoot = None,
    as_json: AsJson = False,
    partition: Annotated[int | None, typer.Option(help="Only this partition of the commands topic.")] = None,
    owner: OnlyOwner = None,
    image: Annotated[UUID | None, typer.Option(help="Only commands of this image.")] = None,
    again: Annotated[
        bool, typer.Option("--again", help="Also handle finished commands: their answers are published again.")
    ] = False,
    dry_run: DryRun = False,
    yes: Yes = False,
) -> None:
    """Handle the commands from a position to the end of the log again, in this process.

    Finished commands (with an answer in the log and a result in the bucket) are skipped. The replay appends no commands
    and does not affect the consumer groups of the services. An answer depends only on the bucket and the command's
    version, so the index is the same in any order.
    """
    settings, output = load_settings(root), Output(as_json)
    done, rendered = run(_replay(settings, output, (start, partition), Scope(owner, image), again, dry_run, yes))
    output.document(_document(done, rendered), _lines(done, rendered))
    if done.failures:
        raise typer.Exit(DIFFERENCES_FOUND)


async def _replay(
    settings: Settings,
    output: Output,
    place: tuple[str, int | None],
    scope: Scope,
    again: bool,
    dry_run: bool,
    yes: bool,
) -> tuple[Replayed, int]:
    done = Replayed()
    async with TopicReader(settings, Topic.COMMANDS) as reader, store(settings) as bucket:
        start, end = await start_offsets(reader, *place), await reader.ends()
        todo = await scan(reader, start, end, scope, settings.epoch, done, output)
        if not again:
            todo = await unfinished(settings, bucket, todo, output)
        done.finished = done.commands - len(todo)
        if not output.confirmed(_plan(done, todo), dry_run=dry_run, yes=yes) or not todo:
            return done, 0
        async with producer(settings) as sender:
            renderer = PoolRenderer(settings)
            events = KafkaEventLog(sender, settings, "imagepipe/replay")
            handler = Handler(bucket, renderer, events, settings.public_base_url)
            try:
                with output.progress("Replay", len(todo)) as advance:
                    await handle_again(settings, reader, handler, todo, done, advance)
            finally:
                await renderer.close()
    return done, renderer.rendered


def _plan(done: Replayed, todo: Sequence[Asked]) -> list[str]:
    """The plan: the number of commands of each type."""
    counts = Counter(each.type for each in todo)
    lines = [f"{done.commands:,} commands in scope, {done.finished:,} of them finished."]
    lines += [f"  handle {number:,} {kind}" for kind, number in sorted(counts.items())]
    return [*lines, f"{len(todo):,} to handle. Each needs a few reads, and a render if its result is missing."]


def _document(done: Replayed, rendered: int) -> dict[str, Any]:
    return {
        "commands": done.commands, "finished": done.finished, "answers": dict(done.answers), "rendered": rendered,
        "fences": done.fences, "skipped": done.skipped.document(), "failures": done.failures,
    }  # fmt: skip


def _lines(done: Replayed, rendered: int) -> list[str]:
    answers = ", ".join(f"{count:,} {kind}" for kind, count in sorted(done.answers.items())) or "none"
    lines = [f"{done.commands:,} commands: {done.finished:,} were finished; answers: {answers}; {rendered:,} rendered."]
    lines += [f"failed {place}: {reason}" for place, reason in done.failures.items()]
    return lines + done.skipped.lines()
