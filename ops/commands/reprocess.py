"""`imagepipe reprocess`: render images again, for example with a new ladder, without delaying live uploads much."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass
from enum import StrEnum
from typing import Annotated, Any
from uuid import UUID

import typer

from ops.connections import index, producer, run
from ops.index.rows import Rows
from ops.log.consumer_groups import committed_offsets
from ops.log.reader import TopicReader
from ops.settings import load_settings
from ops.terminal.options import AsJson, DeploymentRoot, DryRun, OnlyOwner, Yes
from ops.terminal.output import Output
from shared.cassandra.index import CassandraIndex
from shared.contract.events import Original, Reprocess
from shared.contract.keys import Owner
from shared.kafka.writers import KafkaCommandLog
from shared.owner_images import owner_pages
from shared.read_model.documents import ImageRow, status
from shared.read_model.tables import IMAGES
from shared.settings import Settings, Topic

POLL_SECONDS = 0.5
"""Interval between two checks of the backlog while it is full."""


class Where(StrEnum):
    """Selects the images to render again."""

    LADDER = "ladder!=current"
    FAILED = "failed"
    ALL = "all"


@dataclass(frozen=True)
class Choice:
    """The options that select images."""

    where: Where
    owner: Owner | None
    image: UUID | None
    limit: int | None


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command()(reprocess)


def reprocess(
    root: DeploymentRoot = None,
    as_json: AsJson = False,
    where: Annotated[
        Where, typer.Option(help="Images with variants of another ladder, images that failed, or all images.")
    ] = Where.LADDER,
    owner: OnlyOwner = None,
    image: Annotated[UUID | None, typer.Option(help="Only this image.")] = None,
    limit: Annotated[int | None, typer.Option(min=1, help="At most this many images.")] = None,
    backlog: Annotated[
        int, typer.Option(min=1, help="Commands that may wait for the processors. Live uploads wait for them too.")
    ] = 2,
    dry_run: DryRun = False,
    yes: Yes = False,
) -> None:
    """Append image.reprocess for images, with the ladder of the settings. Old variants are served until then.

    The next command is appended when fewer than --backlog commands wait for the processors. To continue after Ctrl-C
    run the command again: it skips images that have the new ladder already.
    """
    settings, output = load_settings(root), Output(as_json)
    choice = Choice(where, owner, image, limit)
    document = run(_reprocess(settings, choice, backlog, output, dry_run, yes))
    output.document(document, [f"{document['published']:,} of {document['matched']:,} images will be rendered again."])


async def _reprocess(
    settings: Settings, choice: Choice, backlog: int, output: Output, dry_run: bool, yes: bool
) -> dict[str, Any]:
    async with index(settings) as live:
        matched = 0
        with output.progress("Find images", None) as advance:
            async for _ in _chosen(settings, live, choice):
                matched += 1
                advance()
        document: dict[str, Any] = {"matched": matched, "published": 0, "ladder": settings.ladder.digest}
        plan = [f"Render {matched:,} images with ladder {settings.ladder.digest}, {backlog} at a time."]
        if not matched or not output.confirmed(plan, dry_run=dry_run, yes=yes):
            return document
        async with producer(settings) as sender, TopicReader(settings, Topic.COMMANDS) as reader:
            log = KafkaCommandLog(sender, settings, "imagepipe/reprocess")
            pace = Pace(settings, reader, backlog)
            with output.progress("Reprocess", matched) as advance:
                async for row in _chosen(settings, live, choice):
                    await pace.wait()
                    await log.append(_command(row, choice.where, settings))
                    pace.sent()
                    document["published"] += 1
                    advance()
        return document


class Pace:
    """Limits the commands that wait for the processors. Commands of live uploads count too."""

    def __init__(self, settings: Settings, reader: TopicReader, backlog: int) -> None:
        from processor.consuming.faust_app import GROUP

        self._topic = settings.topic(Topic.COMMANDS)
        self._group = settings.topic_prefix + GROUP
        self._settings = settings
        self._reader = reader
        self._backlog = backlog
        self._credit = 0

    def sent(self) -> None:
        """Note that a command was appended."""
        self._credit -= 1

    async def wait(self) -> None:
        """Return when fewer than `backlog` commands wait for the processors."""
        while self._credit <= 0:
            self._credit = self._backlog - await self._lag()
            if self._credit <= 0:
                await asyncio.sleep(POLL_SECONDS)

    async def _lag(self) -> int:
        committed = (await committed_offsets(self._settings)).get(self._group, {})
        positions = {place.partition: offset for place, offset in committed.items() if place.topic == self._topic}
        ends, beginnings = await self._reader.ends(), await self._reader.beginnings()
        return sum(end - max(beginnings[p], positions.get(p, beginnings[p])) for p, end in ends.items())


async def _chosen(settings: Settings, live: CassandraIndex, choice: Choice) -> AsyncIterator[ImageRow]:
    count = 0
    async for row in _rows(settings, live, choice):
        if _wants(row, choice.where, settings.ladder.digest):
            yield row
            count += 1
            if count == choice.limit:
                return


async def _rows(settings: Settings, live: CassandraIndex, choice: Choice) -> AsyncIterator[ImageRow]:
    if choice.image is not None:
        row = await live.image(choice.image)
        if row is not None and choice.owner in (None, row.owner):
            yield row
        return
    if choice.owner is not None:
        async for page in owner_pages(live, choice.owner):
            for row in page:
                yield row
        return
    rows = await Rows.open(settings)
    try:
        async for stored in rows.scan(IMAGES):
            for each in stored:
                row = await live.image(each.image_id)
                if row is not None:
                    yield row
    finally:
        await rows.close()


def _wants(row: ImageRow, where: Where, digest: str) -> bool:
    """Whether the image is selected. Without a request and a served revision there is nothing to render."""
    if row.current is None and row.request is None:
        return False
    match where:
        case Where.LADDER:
            return row.current is not None and not _is_open(row) and row.current.render.split("-")[0] != digest
        case Where.FAILED:
            return row.request is not None and status(row) == "failed"
        case Where.ALL:
            return not _is_open(row)


def _is_open(row: ImageRow) -> bool:
    """Whether the latest request may still become ready.

    That is so while it is processing. It is also so if its original is lost: it has no manifest, so a replay renders it
    when an operator has restored the original. A reprocess of the older, served revision must not be appended then,
    because its answer would have the higher version and hide the result of the request.
    """
    lost = row.outcome is not None and row.outcome.error_type == "original_lost"
    return status(row) == "processing" or (row.current is not None and status(row) == "failed" and lost)


def _command(row: ImageRow, where: Where, settings: Settings) -> Reprocess:
    """Make the command for an image.

    It renders the served revision. It renders the revision of the latest request only with `failed`, or if no revision
    is served. Otherwise a failed replacement, whose failure the client has seen, could become ready because of a new
    ladder.
    """
    group = row.request if where is Where.FAILED else row.current or row.request
    assert group is not None, "a row has a request or a served revision"
    original = row.current.original if group is row.current and row.current else group
    return Reprocess(
        image_id=row.image_id,
        owner=row.owner,
        image_version=row.image_version,
        revision=group.revision,
        revision_version=group.revision_version,
        original=Original.model_validate(original, from_attributes=True),
        ladder=settings.ladder,
    )
