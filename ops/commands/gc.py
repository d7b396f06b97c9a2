"""`imagepipe gc`: report or delete superseded objects and garbage."""

import asyncio
from datetime import timedelta
from typing import Annotated, Any, NoReturn

import typer

from ops.bucket.sweeper import Sweeper, Swept
from ops.checks.garbage import Collector, Garbage
from ops.connections import run, store
from ops.log.positions import parse_age
from ops.settings import load_settings
from ops.terminal.options import AsJson, DeploymentRoot, Yes
from ops.terminal.output import Output
from shared.errors import ConfigurationError, Unavailable
from shared.settings import Settings

LEAST_AGE = timedelta(hours=1)
"""Minimum age of garbage. A running request is younger: the gateway waits for seconds, a client's retry for minutes."""


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command()(gc)


def gc(
    root: DeploymentRoot = None,
    as_json: AsJson = False,
    superseded: Annotated[
        bool, typer.Option("--superseded", help="Only superseded objects (the sweep). It is safe at any time.")
    ] = False,
    apply: Annotated[
        bool, typer.Option("--apply", help="Delete the objects. Without this option only report.")
    ] = False,
    older_than: Annotated[str, typer.Option(help="Minimum age of unknown objects.")] = "24h",
    every: Annotated[
        str | None, typer.Option(help="With --superseded: repeat the sweep at this interval, such as 10m.")
    ] = None,
    yes: Yes = False,
) -> None:
    """Report objects that can be deleted, or delete them with --apply.

    Superseded originals and variants can be deleted SWEEP_DELAY (1 h) after the newer render was ready. Without
    --superseded the command also finds objects that no row, command or manifest names, remaining objects of deleted
    images, and expired tombstones. Rows without objects are only reported.
    """
    settings, output, age = load_settings(root), Output(as_json), parse_age(older_than)
    if age < LEAST_AGE:
        raise ConfigurationError("--older-than must be at least 1h: younger objects may belong to a running request")
    if every is not None:
        if not superseded:
            raise ConfigurationError("--every needs --superseded: an operator must check the other objects")
        run(_sweep_periodically(settings, output, apply, parse_age(every)))
    if superseded:
        swept, garbage, applied = run(_sweep(settings, output, apply)), None, apply
    else:
        swept, garbage, applied = run(_collect(settings, output, age, apply, yes))
    output.document(_document(swept, garbage, applied), _lines(swept, garbage, applied))


async def _sweep(settings: Settings, output: Output, apply: bool) -> Swept:
    async with store(settings) as bucket:
        return await Sweeper(settings, bucket, output).run(apply)


async def _sweep_periodically(settings: Settings, output: Output, apply: bool, pause: timedelta) -> NoReturn:
    while True:
        try:
            swept = await _sweep(settings, output, apply)
        except Unavailable as error:
            # The next sweep finds the same objects.
            output.say(f"The sweep failed: {error}")
        else:
            output.document(_document(swept, None, apply), _lines(swept, None, apply))
        await asyncio.sleep(pause.total_seconds())


async def _collect(
    settings: Settings, output: Output, age: timedelta, apply: bool, yes: bool
) -> tuple[Swept, Garbage, bool]:
    async with store(settings) as bucket:
        sweeper = Sweeper(settings, bucket, output)
        swept = await sweeper.run(apply=False)
        garbage = await Collector(settings, bucket, output, age).run()
        deletable = [*garbage.objects, *garbage.expired_tombstones]
        wanted = apply and bool(deletable or swept.keys)
        applied = wanted and output.confirmed(_lines(swept, garbage, False), dry_run=False, yes=yes)
        if applied:
            await sweeper.run(apply=True)
            await bucket.delete(deletable)
        return swept, garbage, applied


def _document(swept: Swept, garbage: Garbage | None, applied: bool) -> dict[str, Any]:
    document: dict[str, Any] = {
        "applied": applied,
        "superseded": {"images": swept.images, "objects": swept.objects, "bytes": swept.size, "keys": swept.keys},
    }
    if garbage is not None:
        document |= {
            "unknown": {"objects": garbage.objects, "bytes": garbage.size},
            "rows_without_objects": garbage.rows_without_objects,
            "expired_tombstones": garbage.expired_tombstones,
            "skipped": garbage.skipped.document(),
        }
    return document


def _lines(swept: Swept, garbage: Garbage | None, applied: bool) -> list[str]:
    verb = "deleted" if applied else "can be deleted"
    lines = [f"superseded: {swept.objects:,} objects of {swept.images:,} images ({swept.size / 1e6:.1f} MB) {verb}"]
    if garbage is None:
        return lines
    lines += [f"unknown: {key} ({reason}) {verb}" for key, reason in garbage.objects.items()]
    lines += [f"expired tombstone: {key} {verb}" for key in garbage.expired_tombstones]
    lines += [f"row without objects: {image_id} (see imagepipe verify)" for image_id in garbage.rows_without_objects]
    lines.append(f"unknown objects: {len(garbage.objects):,} ({garbage.size / 1e6:.1f} MB) {verb}")
    return lines + garbage.skipped.lines()
