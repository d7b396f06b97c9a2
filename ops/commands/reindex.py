"""`imagepipe reindex`: rebuild the index in a new keyspace, compare it, and switch to it without downtime."""

import asyncio
import re
from dataclasses import dataclass
from typing import Annotated, Any

import typer

from ops.connections import run, store
from ops.index.rebuild import Rebuild, RowDifference, compare
from ops.log.reader import TopicReader, span
from ops.log.skipped import Skipped
from ops.settings import load_settings
from ops.terminal.options import AsJson, DeploymentRoot, DryRun, Yes
from ops.terminal.output import DIFFERENCES_FOUND, Output
from shared.cassandra.deployment import live_keyspace, record_keyspace, switch_keyspace
from shared.cassandra.index import FOLLOW_SECONDS, CassandraIndex
from shared.cassandra.schema import apply_schema
from shared.cassandra.session import connected
from shared.errors import ConfigurationError
from shared.settings import Settings, Topic

SWITCH_SECONDS = 10 * FOLLOW_SECONDS
"""How long both keyspaces are kept up to date after a switch. Every process checks for a switch each FOLLOW_SECONDS."""
CLAIM_COLUMNS = "scope, fingerprint, image_ids, revisions, lease_until, holder, status, response"


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
    target = await CassandraIndex.open(settings, plan.into)
    try:
        async with store(settings) as bucket:
            rebuild = Rebuild(settings, target, bucket, output)
            await _build(rebuild, plan)
            found = await _differences(rebuild, settings, plan, live, target, output)
            if plan.switch and (not found or plan.accept):
                await _switch(settings, rebuild, target, live, plan)
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
    await _catch_up(rebuild, [])


async def _catch_up(rebuild: Rebuild, others: list[CassandraIndex]) -> None:
    """Apply new records of the log until there are none."""
    while await rebuild.follow([rebuild.target, *others]):
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
        await asyncio.sleep(2 * FOLLOW_SECONDS)
        await _catch_up(rebuild, [])
        again = set(await compare(settings, live, target.keyspace, output))
        found = [each for each in found if each in again]
    return found


async def _switch(settings: Settings, rebuild: Rebuild, target: CassandraIndex, live: str, plan: Plan) -> None:
    """Make the rebuilt keyspace the live one.

    1. Copy the claims of idempotency keys, so that a repeated request is recognised in both keyspaces.
    2. Write the record of the live keyspace. Every gateway and indexer follows within a second.
    3. Keep both keyspaces up to date from the log for SWITCH_SECONDS. A process that still reads the old keyspace then
       sees the writes of processes that already use the new one.
    """
    old = await CassandraIndex.open(settings, live)
    try:
        await asyncio.to_thread(_copy_claims, settings, live, plan.into)
        await asyncio.to_thread(_set_live, settings, plan.into)
        if plan.from_bucket:
            return
        deadline = asyncio.get_running_loop().time() + SWITCH_SECONDS
        while asyncio.get_running_loop().time() < deadline:
            await rebuild.follow([target, old])
            await asyncio.sleep(FOLLOW_SECONDS / 2)
        await asyncio.to_thread(_copy_claims, settings, live, plan.into)
    finally:
        await old.close()


def _live(settings: Settings) -> str:
    with connected(settings, settings.cassandra_keyspace) as session:
        return live_keyspace(session, settings)


def _record(settings: Settings, keyspace: str) -> None:
    with connected(settings) as session:
        record_keyspace(session, settings, keyspace)


def _set_live(settings: Settings, keyspace: str) -> None:
    with connected(settings) as session:
        switch_keyspace(session, settings, keyspace)


def _copy_claims(settings: Settings, source: str, target: str) -> None:
    """Copy the claims that are not in the target yet, with their remaining time to live (at most a day)."""
    with connected(settings) as session:
        names = CLAIM_COLUMNS.split(", ")
        marks = ", ".join("?" * len(names))
        insert = session.prepare(
            f"INSERT INTO {target}.idempotency_keys ({CLAIM_COLUMNS}) VALUES ({marks}) IF NOT EXISTS USING TTL ?"
        )
        query = f"SELECT {CLAIM_COLUMNS}, TTL(fingerprint) AS left FROM {source}.idempotency_keys"
        for row in session.execute(query):
            session.execute(insert, [*(getattr(row, name) for name in names), row.left or 86_400])


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
