"""`imagepipe verify`: an fsck over log, index and bucket."""

from datetime import timedelta
from typing import Annotated

import typer

from ops.checks.differences import Difference
from ops.checks.inspection import Inspection, by_kind
from ops.checks.repair import advice, repair
from ops.connections import index, producer, run, store
from ops.index.rows import Rows
from ops.log.positions import parse_age
from ops.settings import load_settings
from ops.terminal.options import AsJson, DeploymentRoot, DryRun, Yes
from ops.terminal.output import DIFFERENCES_FOUND, Output
from shared.kafka.writers import KafkaEventLog
from shared.settings import Settings


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command()(verify)


def verify(
    root: DeploymentRoot = None,
    as_json: AsJson = False,
    dry_run: DryRun = False,
    yes: Yes = False,
    mend: Annotated[bool, typer.Option("--repair", help="Mend what a write at the log's version can win.")] = False,
    checksums: Annotated[bool, typer.Option(help="Read every object that is served and hash it.")] = True,
    slices: Annotated[
        int, typer.Option(min=1, help="Fold the images in this many rounds: less memory, more reads.")
    ] = 1,
    pause: Annotated[float, typer.Option(min=0, help="Seconds before each of three second looks.")] = 3.0,
    grace: Annotated[str, typer.Option(help="Objects younger than this may belong to a request under way.")] = "1h",
) -> None:
    """Compare every row, object and manifest with what the log says. Safe beside live traffic.

    Prints each difference that is still there after three looks. Exit code 0: there is none; 1: there are some.
    """
    settings, output = load_settings(root), Output(as_json)
    found, images = run(_verify(settings, output, parse_age(grace), checksums, slices, pause, mend, dry_run, yes))
    lines = [line for each in found for line in (str(each), f"{'':<14} -> {advice(each)}")]
    summary = ", ".join(f"{count} {kind}" for kind, count in by_kind(found).items())
    document = {
        "images": images,
        "clean": not found,
        "differences": [each.document() | {"advice": advice(each)} for each in found],
    }
    output.document(document, [*lines, f"{images:,} images: {summary or 'clean'}."])
    if found:
        raise typer.Exit(DIFFERENCES_FOUND)


async def _verify(
    settings: Settings,
    output: Output,
    grace: timedelta,
    with_checksums: bool,
    slices: int,
    pause: float,
    mend: bool,
    dry_run: bool,
    yes: bool,
) -> tuple[list[Difference], int]:
    """What is left to report, and how many images there are."""
    left: list[Difference] = []
    images = 0
    rows = await Rows.open(settings)
    try:
        async with store(settings) as bucket:
            for number in range(slices):
                look = Inspection(
                    settings, rows, bucket, output, grace=grace, with_checksums=with_checksums, slice_number=number,
                    slices=slices,
                )  # fmt: skip
                found = await look.settled(await look.run(), pause)
                if found and mend:
                    found = await _mend(look, found, output, dry_run, yes)
                left += found
                images += sum(1 for state in look.fold if not state.is_removed)
    finally:
        await rows.close()
    # A day may be missed by images of several slices.
    return list(dict.fromkeys(left)), images


async def _mend(
    look: Inspection, found: list[Difference], output: Output, dry_run: bool, yes: bool
) -> list[Difference]:
    plan = [str(each) for each in found[:20]]
    counts = ", ".join(f"{count} {kind}" for kind, count in by_kind(found).items())
    if not output.confirmed([*plan, f"Repair {counts}, where a write can."], dry_run=dry_run, yes=yes):
        return found
    async with index(look.settings) as live, producer(look.settings) as sender:
        events = KafkaEventLog(sender, look.settings, "imagepipe/ops")
        left = await repair(found, look, live, events, look.settings.day_shards)
    output.say(f"{len(found) - len(left)} of {len(found)} differences were mended.")
    return left
