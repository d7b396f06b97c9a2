"""`imagepipe reprocess`: render images once more after a change of the ladder, paced behind live uploads."""

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

LOOK_SECONDS = 0.5
"""How often the backlog is looked at while it is full."""


class Where(StrEnum):
    """Which images are rendered once more."""

    LADDER = "ladder!=current"
    FAILED = "failed"
    ALL = "all"


@dataclass(frozen=True)
class Choice:
    """What was asked for."""

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
        Where, typer.Option(help="Whose variants are of another ladder; failed ones; or all.")
    ] = Where.LADDER,
    owner: OnlyOwner = None,
    image: Annotated[UUID | None, typer.Option(help="Only this image.")] = None,
    limit: Annotated[int | None, typer.Option(min=1, help="At most this many.")] = None,
    backlog: Annotated[
        int, typer.Option(min=1, help="Commands that may wait for the processor at a time: so long do uploads wait.")
    ] = 2,
    dry_run: DryRun = False,
    yes: Yes = False,
) -> None:
    """Publish image.reprocess for images, with the ladder of the settings. Old variants are served until then.

    Paced: the next command goes out when the processor has less than --backlog to do. To resume after Ctrl-C run it
    again: what has the new ladder by then is passed by.
    """
    settings, output = load_settings(root), Output(as_json)
    choice = Choice(where, owner, image, limit)
    document = run(_reprocess(settings, choice, backlog, output, dry_run, yes))
    output.document(document, [f"{document['published']:,} of {document['matched']:,} images are rendered once more."])


async def _reprocess(
    settings: Settings, choice: Choice, backlog: int, output: Output, dry_run: bool, yes: bool
) -> dict[str, Any]:
    async with index(settings) as live:
        matched = 0
        with output.progress("Look for images", None) as advance:
            async for _ in _chosen(settings, live, choice):
                matched += 1
                advance()
        document: dict[str, Any] = {"matched": matched, "published": 0, "ladder": settings.ladder.digest}
        plan = [f"{matched:,} images are rendered with ladder {settings.ladder.digest}, {backlog} at a time."]
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
    """Holds back while the processor has enough to do; commands of live uploads count as well."""

    def __init__(self, settings: Settings, reader: TopicReader, backlog: int) -> None:
        from processor.consuming.faust_app import GROUP

        self._topic = settings.topic(Topic.COMMANDS)
        self._group = settings.topic_prefix + GROUP
        self._settings = settings
        self._reader = reader
        self._backlog = backlog
        self._credit = 0

    def sent(self) -> None:
        """One command went out."""
        self._credit -= 1

    async def wait(self) -> None:
        """Return when there is room for one more: at once, or when the processor has settled something."""
        while self._credit <= 0:
            self._credit = self._backlog - await self._lag()
            if self._credit <= 0:
                await asyncio.sleep(LOOK_SECONDS)

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
    """Whether the image is meant."""
    match where:
        case Where.LADDER:
            return row.current is not None and not _is_open(row) and row.current.render.split("-")[0] != digest
        case Where.FAILED:
            return row.request is not None and status(row) == "failed"
        case Where.ALL:
            return not _is_open(row)


def _is_open(row: ImageRow) -> bool:
    """Whether the latest request may yet be ready at its own version.

    One under way gets its variants without us. One whose original is lost has no manifest, so a replay renders it once
    the original is back. A render of what is served now would have the higher version, and keep it out of the index.
    """
    lost = row.outcome is not None and row.outcome.error_type == "original_lost"
    return status(row) == "processing" or (row.current is not None and status(row) == "failed" and lost)


def _command(row: ImageRow, where: Where, settings: Settings) -> Reprocess:
    """Render what is served, and what was asked for only where that is meant or nothing is served.

    A client was told that a failed replacement failed: it must not go live because the ladder changes.
    """
    group = row.request if where is Where.FAILED else row.current or row.request
    assert group is not None, "a row has a request or something that is served"
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
