"""`imagepipe topics`: create the topics, update their settings, and copy records from other topics."""

from contextlib import AsyncExitStack
from typing import Annotated, Any

import typer

from ops.connections import producer, run
from ops.log.copy import TopicCopy, source_settings
from ops.log.reader import TopicReader, span
from ops.settings import load_settings
from ops.terminal.options import AsJson, DeploymentRoot, DryRun, Yes
from ops.terminal.output import DIFFERENCES_FOUND, Output
from shared.errors import ConfigurationError
from shared.kafka.topics import TopicPlan, apply_topics, plan_topics, require_topics
from shared.settings import Settings, Topic

app = typer.Typer(
    no_args_is_help=True,
    help="Create the topics and update their settings. The number of partitions cannot be changed, because it decides "
    "which commands are in order.",
)


def register(parent: typer.Typer) -> None:
    """Add the commands."""
    parent.add_typer(app, name="topics")


@app.command()
def plan(root: DeploymentRoot = None, as_json: AsJson = False) -> None:
    """Show the changes that `apply` would make. The exit code is 1 if there are any."""
    plans = run(plan_topics(load_settings(root)))
    Output(as_json).document([_document(each) for each in plans], [line for each in plans for line in _lines(each)])
    if any(each.action != "keep" for each in plans):
        raise typer.Exit(DIFFERENCES_FOUND)


@app.command("apply")
def apply_(root: DeploymentRoot = None, as_json: AsJson = False, dry_run: DryRun = False, yes: Yes = False) -> None:
    """Create missing topics and update the settings of the others. You can repeat this."""
    settings, output = load_settings(root), Output(as_json)
    plans = run(plan_topics(settings))
    refused = [each.refusal for each in plans if each.refusal]
    if refused:
        raise ConfigurationError("; ".join(refused))
    todo = [each for each in plans if each.action != "keep"]
    lines = [line for each in todo for line in _lines(each)]
    done = bool(todo) and output.confirmed(lines, dry_run=dry_run, yes=yes)
    if done:
        run(apply_topics(settings))
    summary = f"{len(todo)} topics were created or updated." if done else "Nothing was changed."
    output.document({"applied": done, "topics": [_document(each) for each in plans]}, [summary])


@app.command()
def describe(root: DeploymentRoot = None, as_json: AsJson = False) -> None:
    """Show each topic's partitions, replicas, number of records and settings."""
    rows = run(_describe(load_settings(root)))
    Output(as_json).table(["topic", "partitions", "replicas", "offsets", "settings"], rows)


async def _describe(settings: Settings) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = []
    for plan, topic in zip(await plan_topics(settings), Topic, strict=True):
        if plan.partitions is None:
            rows.append({"topic": plan.spec.name, "partitions": None, "settings": "missing: imagepipe topics apply"})
            continue
        async with TopicReader(settings, topic) as reader:
            beginnings, ends = await reader.beginnings(), await reader.ends()
        now = plan.spec.config | {name: is_ or "default" for name, (is_, _) in plan.changes.items()}
        rows.append(
            {
                "topic": plan.spec.name,
                "partitions": plan.partitions,
                "replicas": plan.replication_factor,
                # A broker does not count records. This number includes records that compaction has removed.
                "offsets": sum(ends.values()) - sum(beginnings.values()),
                "settings": " ".join(f"{name}={value}" for name, value in sorted(now.items())),
            }
        )
    return rows


@app.command()
def copy(
    prefix: Annotated[str, typer.Option("--from-prefix", help="TOPIC_PREFIX of the topics to copy. It may be empty.")],
    epoch: Annotated[int, typer.Option("--from-epoch", min=1, help="EPOCH of the topics to copy.")],
    servers: Annotated[
        str | None,
        typer.Option("--from-servers", help="Brokers of another cluster. Login and TLS are those of the settings."),
    ] = None,
    root: DeploymentRoot = None,
    as_json: AsJson = False,
    dry_run: DryRun = False,
    yes: Yes = False,
) -> None:
    """Copy commands and events from other topics, for example to continue with more partitions.

    Before: set TOPIC_PREFIX, TOPIC_PARTITIONS and a higher EPOCH, and stop all services that write to the old topics.
    The records keep their versions and their order, so no work is repeated. You can repeat this command. See
    docs/runbooks/more-partitions.md.
    """
    settings, output = load_settings(root), Output(as_json)
    source = source_settings(settings, prefix, epoch, servers)
    copying = run(_copy(source, settings, output, dry_run, yes))
    if copying is None:
        output.document({"copied": False}, ["Nothing was changed."])
        return
    counts, skipped = copying.counts, copying.skipped
    document = {"copied": True, "commands": counts["commands"], "events": counts["events"]}
    summary = f"{counts['commands']:,} commands and {counts['events']:,} events were copied."
    output.document(document | {"skipped": skipped.document()}, [summary, *skipped.lines()])


async def _copy(source: Settings, target: Settings, output: Output, dry_run: bool, yes: bool) -> TopicCopy | None:
    await require_topics(target)
    async with AsyncExitStack() as stack:
        readers = {
            topic: await stack.enter_async_context(TopicReader(source, topic))
            for topic in (Topic.COMMANDS, Topic.EVENTS)
        }
        counts = {topic: span(await reader.beginnings(), await reader.ends()) for topic, reader in readers.items()}
        plan = [
            f"{count:,} offsets from {source.topic(topic)} to {target.topic(topic)}" for topic, count in counts.items()
        ]
        if not output.confirmed(plan, dry_run=dry_run, yes=yes):
            return None
        copying = TopicCopy(source, target, await stack.enter_async_context(producer(target)))
        for topic, reader in readers.items():
            with output.progress(f"Copying {source.topic(topic)}", counts[topic]) as advance:
                await copying.run(reader, topic, advance)
        return copying


def _document(plan: TopicPlan) -> dict[str, Any]:
    return {
        "topic": plan.spec.name,
        "action": plan.action,
        "partitions": {"is": plan.partitions, "should_be": plan.spec.partitions},
        "changes": {name: {"is": is_, "should_be": should} for name, (is_, should) in plan.changes.items()},
        "refusal": plan.refusal,
    }


def _lines(plan: TopicPlan) -> list[str]:
    if plan.refusal:
        return [f"refuse  {plan.refusal}"]
    lines = [f"{plan.action:<7} {plan.spec.name} ({plan.spec.partitions} partitions)"]
    return lines + [f"        {name}: {is_} -> {should}" for name, (is_, should) in plan.changes.items()]
