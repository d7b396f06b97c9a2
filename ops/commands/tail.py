"""`imagepipe tail`: print new records of the log, as text or as JSON."""

from collections.abc import Mapping
from enum import StrEnum
from typing import Annotated, Any

import typer

from ops.connections import run
from ops.log.positions import HELP, start_offsets
from ops.log.reader import TopicReader
from ops.log.summary import one_line, summary
from ops.settings import load_settings
from ops.terminal.options import AsJson, DeploymentRoot, OnlyOwner
from ops.terminal.output import Output
from shared.consuming.record import ConsumedRecord
from shared.settings import Settings, Topic


class Source(StrEnum):
    """The topic to follow."""

    EVENTS = "events"
    COMMANDS = "commands"


TOPICS = {Source.EVENTS: Topic.EVENTS, Source.COMMANDS: Topic.COMMANDS}


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command()(tail)


def tail(
    root: DeploymentRoot = None,
    as_json: AsJson = False,
    owner: OnlyOwner = None,
    kind: Annotated[str | None, typer.Option("--type", help="Only records of this type, such as image.ready.")] = None,
    image: Annotated[str | None, typer.Option(help="Only records of this image.")] = None,
    topic: Annotated[Source, typer.Option(help="The topic: events (the answers), or commands.")] = Source.EVENTS,
    start: Annotated[str | None, typer.Option("--from", help=f"Start here instead of now: {HELP}")] = None,
    follow: Annotated[bool, typer.Option(help="Wait for new records, or stop at the end of the topic.")] = True,
) -> None:
    """Follow the log until Ctrl-C. It uses no consumer group, so it does not affect the services."""
    wanted = {"owner": owner.key if owner else None, "type": kind, "image_id": image}
    chosen = {name: value for name, value in wanted.items() if value is not None}
    run(_tail(load_settings(root), TOPICS[topic], start, follow, chosen, Output(as_json)))


async def _tail(
    settings: Settings, topic: Topic, start: str | None, follow: bool, wanted: Mapping[str, str], output: Output
) -> None:
    async with TopicReader(settings, topic) as reader:
        ends = await reader.ends()
        begin = ends if start is None else await start_offsets(reader, start, None)
        async for batch in reader.read(begin, None if follow else ends):
            for record in batch:
                document = summary(record)
                if all(document[name] == value for name, value in wanted.items()):
                    show(record, document, output)


def show(record: ConsumedRecord, document: Mapping[str, Any], output: Output) -> None:
    """Print one record."""
    if output.as_json:
        output.json_line(document)
        return
    place = f"{record.partition}:{record.offset}"
    content = document["record"] or {}
    kind = document["type"] or ("(null)" if record.value is None else "(not an imagepipe record)")
    error, version = content.get("error"), one_line(content.get("version"))
    detail = (
        (one_line(error.get("type")) if isinstance(error, dict) else None) or one_line(content.get("answers")) or ""
    )
    parts = (document["time"], f"{place:>10}", f"{kind:<16}", document["image_id"] or "-", document["owner"] or "-")
    output.line(" ".join((*parts, f"v{version}" if version else "", detail)).rstrip())
