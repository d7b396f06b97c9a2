"""`imagepipe reindex`: rebuild the index in a new keyspace, compare it, and switch to it without downtime."""

import asyncio
import re
from dataclasses import dataclass
from typing import Annotated, Any

import typer

from ops.connections import run, store
from ops.index.rebuild import Rebuild, RowDifference, compare
from ops.index.switch import Switch
from ops.log.reader import TopicReader, span
from ops.log.skipped import Skipped
from ops.settings import load_settings
from ops.terminal.options import AsJson, DeploymentRoot, DryRun, Yes
from ops.terminal.output import DIFFERENCES_FOUND, Output
from shared.cassandra.deployment import live_keyspace, record_keyspace
from shared.cassandra.index import BULK_REQUESTS_AT_ONCE, CassandraIndex
from shared.cassandra.schema import apply_schema
from shared.cassandra.session import connected
from shared.errors import ConfigurationError
from shared.settings import Settings, Topic

CAUGHT_UP = 1000
"""A rebuild has caught up if a round finds at most this many new records. Under live traffic each round finds some."""
SETTLE_SECONDS = 2.0
"""Pause between two comparisons. Records that were on their way at the first one are in both keyspaces then."""


@dataclass(frozen=True)
class Plan:
    """The options of the command. `into` is the keyspace to build."""

    into: str
    from_bucket: bool
    compare: bool
    switch: bool
    accept: bool
    slices: int


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command()(reindex)


def reindex(
    into: Annotated[str, typer.Option(help="Keyspace to build. It is created if needed and must not be the live one.")],
    root: DeploymentRoot = None,
    as_json: AsJson = False,
    from_bucket: Annotated[
        bool, typer.Option("--from-bucket", help="Rebuild from the manifests only, if the log is lost too.")
    ] = False,
    compare_: Annotated[bool, typer.Option("--compare", help="Compare all rows with the live keyspace.")] = False,
    switch: Annotated[bool, typer.Option("--switch", help="Make the new keyspace live. No service restarts.")] = False,
    accept: Annotated[bool, typer.Option("--accept-differences", help="Switch even if rows differ.")] = False,
    slices: Annotated[
        int, typer.Option(min=1, help="Read the log this many times, each time for a part of the images: less memory.")
    ] = 1,
    dry_run: DryRun = False,
    yes: Yes = False,
) -> None:
    """Rebuild the index from the topics in another keyspace.

    It is safe during live traffic, and can be interrupted and repeated, because every write has a version of the log.
    With --compare the exit code is 1 if rows differ. Then --switch also needs --accept-differences; use that if the
    live index is damaged.
    """
    settings, output = load_settings(root), Output(as_json)
    plan = Plan(into, from_bucket, compare_, switch, accept, slices)
    document, skipped = run(_reindex(settings, plan, output, dry_run, yes))
    output.document(document, [*_lines(document), *skipped.lines()])
    if document.get("differences") and not accept:
        raise typer.Exit(DIFFERENCES_FOUND)


async def _reindex(
    settings: Settings, plan: Plan, output: Output, dry_run: bool, yes: bool
) -> tuple[dict[str, Any], Skipped]:
    live = await asyncio.to_thread(_live, settings)
    if not re.fullmatch(r"[a-z][a-z0-9_]{0,47}", plan.into):
        raise ConfigurationError(
            f"{plan.into!r} is not a valid keyspace: use a lower-case letter, then up to 47 lower-case letters, digits "
            "and underscores"
        )
    if plan.into == live:
        raise ConfigurationError(f"keyspace {live} is the live one: rebuild into another one, then switch")
    document: dict[str, Any] = {"live": live, "into": plan.into, "done": False}
    if not output.confirmed(await _describe(settings, plan, live), dry_run=dry_run, yes=yes):
        return document, Skipped()
    await asyncio.to_thread(_record, settings, plan.into)
    await asyncio.to_thread(apply_schema, settings.model_copy(update={"cassandra_keyspace": plan.into}))
    target = await CassandraIndex.open(settings, plan.into, requests_at_once=BULK_REQUESTS_AT_ONCE)
    try:
        async with store(settings) as bucket:
            rebuild = Rebuild(settings, target, bucket, output)
            await _build(rebuild, plan)
            found = await _differences(rebuild, settings, plan, live, target, output)
            if plan.switch and (not found or plan.accept):
                await Switch(settings, rebuild, live, follows_log=not plan.from_bucket).run()
                document["live"] = plan.into
    finally:
        await target.close()
    done = rebuild.done
    document |= {
        "done": True, "records": done.records, "images": done.images, "skipped_deleted": done.skipped_deleted,
        "originals_without_manifest": done.originals_without_manifest,
        "differences": None if found is None else [each.document() for each in found],
        "skipped": done.skipped.document(),
    }  # fmt: skip
    return document, done.skipped


async def _build(rebuild: Rebuild, plan: Plan) -> None:
    if plan.from_bucket:
        await rebuild.from_bucket()
        return
    await rebuild.from_log(plan.slices)
    await _catch_up(rebuild)


async def _catch_up(rebuild: Rebuild) -> None:
    """Apply new records of the log until a round finds few."""
    while await rebuild.follow([rebuild.target]) > CAUGHT_UP:
        pass


async def _differences(
    rebuild: Rebuild, settings: Settings, plan: Plan, live: str, target: CassandraIndex, output: Output
) -> list[RowDifference] | None:
    """Rows that differ in two comparisons; None without --compare.

    Between the two, both keyspaces get the new records of the log, so live traffic causes no difference.
    """
    if not plan.compare:
        return None
    found = await compare(settings, live, target.keyspace, output)
    if found and not plan.from_bucket:
        await asyncio.sleep(SETTLE_SECONDS)
        await _catch_up(rebuild)
        again = set(await compare(settings, live, target.keyspace, output))
        found = [each for each in found if each in again]
    return found


def _live(settings: Settings) -> str:
    with connected(settings, settings.cassandra_keyspace) as session:
        return live_keyspace(session, settings)


def _record(settings: Settings, keyspace: str) -> None:
    with connected(settings) as session:
        record_keyspace(session, settings, keyspace)


async def _describe(settings: Settings, plan: Plan, live: str) -> list[str]:
    lines = [
        f"The live keyspace is {live}; {plan.into} will be built from "
        + ("manifests." if plan.from_bucket else "the log:")
    ]
    if not plan.from_bucket:
        for topic in (Topic.COMMANDS, Topic.EVENTS):
            async with TopicReader(settings, topic) as reader:
                count = span(await reader.beginnings(), await reader.ends())
                lines.append(f"  {reader.topic}: at most {count:,} records, read {plan.slices} times")
    if plan.switch:
        lines.append(f"Then {plan.into} becomes the live keyspace. {live} is kept: switch back to it, or drop it.")
    return lines


def _lines(document: dict[str, Any]) -> list[str]:
    if not document["done"]:
        return ["Nothing was changed."]
    lines = [f"{document['records']:,} records, {document['images']:,} images in {document['into']}."]
    if document["originals_without_manifest"]:
        lines.append(f"{document['originals_without_manifest']:,} images have no manifest: they were never rendered.")
    for each in (document["differences"] or [])[:50]:
        lines.append(f"{each['kind']:<24} {each['table']:<16} {each['image_id']}")
    if document["differences"] is not None:
        lines.append(f"{len(document['differences']):,} rows differ.")
    return [*lines, f"The live keyspace is {document['live']}."]
