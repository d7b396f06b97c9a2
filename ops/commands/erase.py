"""`imagepipe erase`: delete all data of an owner permanently and print a certificate."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import timedelta
from typing import Annotated, Any

import typer

from ops.connections import index, producer, run, store
from ops.log.positions import parse_age
from ops.log.unanswered import Unanswered
from ops.owner_erasure import Eraser, View, certificate
from ops.settings import load_settings
from ops.terminal.options import AsJson, DeploymentRoot, DryRun, Yes, parse_owner
from ops.terminal.output import DIFFERENCES_FOUND, Output
from shared.cassandra.deployment import Keyspaces, keyspaces
from shared.cassandra.session import connected
from shared.contract.keys import Owner, image_prefix
from shared.settings import Settings


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command()(erase)


def erase(
    owner: Annotated[Owner, typer.Option(parser=parse_owner, metavar="TYPE:ID", help="The owner, such as user:1.")],
    root: DeploymentRoot = None,
    as_json: AsJson = False,
    wait: Annotated[str, typer.Option(help="How long to wait until the processors have deleted the objects.")] = "5m",
    dry_run: DryRun = False,
    yes: Yes = False,
) -> None:
    """Delete all data of an owner, so that no replay, redrive or rebuild restores it, and print a certificate.

    Processors must be running, because they delete the objects and answer the deletes. After Ctrl-C or an outage repeat
    the command; it prints a new certificate. The certificate has the dates at which the owner's key and file names are
    deleted from the topics by retention and compaction.
    """
    settings, output = load_settings(root), Output(as_json)
    document = run(_erase(settings, owner, parse_age(wait), output, dry_run, yes))
    output.document(document, _lines(document))
    if not dry_run and not document["complete"]:
        raise typer.Exit(DIFFERENCES_FOUND)


async def _erase(
    settings: Settings, owner: Owner, limit: timedelta, output: Output, dry_run: bool, yes: bool
) -> dict[str, Any]:
    known = await asyncio.to_thread(_keyspaces, settings)
    async with _views(settings, known) as views, store(settings) as bucket, producer(settings) as sender:
        eraser = Eraser(settings, owner, views, bucket, sender, output)
        unanswered = await Unanswered.from_now(settings, owner)
        traces = await eraser.find()
        objects = {"objects": 0, "incoming_objects": traces.incoming}
        for image_id in traces.images:
            objects["objects"] += len(await bucket.list(image_prefix(image_id)))
        plan = [
            f"Erase {owner.key}: {len(traces.images):,} images with {objects['objects']:,} objects, "
            f"{traces.incoming:,} incoming objects, {len(traces.event_keys):,} event keys, "
            f"{len(traces.dead_letters):,} entries of the DLQ.",
            f"Rows are deleted in the keyspaces {', '.join(known.own)}.",
            *([f"Keyspaces that are not changed: {', '.join(known.others)}."] if known.others else []),
            *traces.skipped.lines(),
            "This cannot be undone.",
        ]
        if not output.confirmed(plan, dry_run=dry_run, yes=yes):
            return {"owner": owner.key, "complete": False, "images": sorted(map(str, traces.images))}
        await eraser.clear(traces)
        await eraser.wait_until_gone(traces.images, unanswered, limit)
        # Search again, because the answers to the deletes contain the owner's key too.
        final = await eraser.find()
        await eraser.forget(final)
        return certificate(settings, owner, final, objects, known, await eraser.left(final.images))


def _keyspaces(settings: Settings) -> Keyspaces:
    with connected(settings, settings.cassandra_keyspace) as session:
        return keyspaces(session, settings)


@asynccontextmanager
async def _views(settings: Settings, known: Keyspaces) -> AsyncIterator[list[View]]:
    async with AsyncExitStack() as stack:
        views = []
        for keyspace, shards in known.own.items():
            changed = settings.model_copy(update={"day_shards": shards})
            views.append(View(await stack.enter_async_context(index(changed, keyspace)), shards))
        yield views


def _lines(document: dict[str, Any]) -> list[str]:
    if "gone_by" not in document:
        return ["Nothing was changed."]
    where = document["keyspaces"]
    lines = [
        f"Certificate of erasure: {document['owner']}, {document['time']}",
        f"  images:                {len(document['images']):,}",
        *(f"  {name.replace('_', ' ') + ':':<22} {count:,}" for name, count in document["removed"].items()),
        *(
            f"  keyspaces {name.replace('_', ' ') + ':':<12} {', '.join(found) or 'none'}"
            for name, found in where.items()
        ),
        f"  complete:              {'yes' if document['complete'] else 'NO, left: ' + str(document['left'])}",
    ]
    return lines + [f"  gone from {place} by {day}" for place, day in document["gone_by"].items()]
