"""`imagepipe verify`: compare log, index and bucket, and repair differences."""

from datetime import timedelta
from typing import Annotated

import typer

from ops.checks.differences import Difference
from ops.checks.inspection import Inspection, by_kind
from ops.checks.repair import advice, repair
from ops.connections import index, producer, run, store
from ops.index.rows import Rows
from ops.log.positions import parse_age
from ops.log.skipped import Skipped
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
    with_repair: Annotated[
        bool, typer.Option("--repair", help="Repair what writes can repair, after a question.")
    ] = False,
    checksums: Annotated[bool, typer.Option(help="Read every served object and check its SHA-256.")] = True,
    slices: Annotated[
        int, typer.Option(min=1, help="Read the log this many times, each time for a part of the images: less memory.")
    ] = 1,
    pause: Annotated[float, typer.Option(min=0, help="Seconds before each of the three repeated checks.")] = 3.0,
    grace: Annotated[str, typer.Option(help="Ignore unknown objects younger than this: their request may run.")] = "1h",
) -> None:
    """Compare every row, object and manifest with the log. It is safe during live traffic.

    The command checks each difference three more times and prints those that remain. The exit code is 0 if there is no
    difference, and 1 otherwise.
    """
    settings, output = load_settings(root), Output(as_json)
    found, images, skipped = run(
        _verify(settings, output, parse_age(grace), checksums, slices, pause, with_repair, dry_run, yes)
    )
    lines = [line for each in found for line in (str(each), f"{'':<14} -> {advice(each)}")]
    summary = ", ".join(f"{count} {kind}" for kind, count in by_kind(found).items())
    document = {
        "images": images,
        "clean": not found,
        "differences": [each.document() | {"advice": advice(each)} for each in found],
        "skipped": skipped.document(),
    }
    output.document(document, [*lines, f"{images:,} images: {summary or 'clean'}.", *skipped.lines()])
    if found:
        raise typer.Exit(DIFFERENCES_FOUND)


async def _verify(
    settings: Settings,
    output: Output,
    grace: timedelta,
    with_checksums: bool,
    slices: int,
    pause: float,
    with_repair: bool,
    dry_run: bool,
    yes: bool,
) -> tuple[list[Difference], int, Skipped]:
    """The remaining differences, the number of images, and the invalid records."""
    left: list[Difference] = []
    images, skipped = 0, Skipped()
    rows = await Rows.open(settings)
    try:
        async with store(settings) as bucket:
            for number in range(slices):
                inspection = Inspection(
                    settings, rows, bucket, output, grace=grace, with_checksums=with_checksums, slice_number=number,
                    slices=slices,
                )  # fmt: skip
                found = await inspection.settled(await inspection.run(), pause)
                if found and with_repair:
                    found = await _repair(inspection, found, output, dry_run, yes)
                left += found
                images += sum(1 for state in inspection.fold if not state.is_removed)
                # Every round reads the whole log; the last one has read the most.
                skipped = inspection.fold.skipped
    finally:
        await rows.close()
    # Several slices may report the same missing day.
    return list(dict.fromkeys(left)), images, skipped


async def _repair(
    inspection: Inspection, found: list[Difference], output: Output, dry_run: bool, yes: bool
) -> list[Difference]:
    plan = [str(each) for each in found[:20]]
    counts = ", ".join(f"{count} {kind}" for kind, count in by_kind(found).items())
    if not output.confirmed([*plan, f"Repair {counts}, as far as writes can."], dry_run=dry_run, yes=yes):
        return found
    async with index(inspection.settings) as live, producer(inspection.settings) as sender:
        events = KafkaEventLog(sender, inspection.settings, "imagepipe/ops")
        left = await repair(found, inspection, live, events, inspection.settings.day_shards)
    output.say(f"{len(found) - len(left)} of {len(found)} differences were repaired.")
    return left
