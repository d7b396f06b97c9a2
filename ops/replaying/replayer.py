"""Handles commands of the log again, beside live traffic, with the processor's own handler."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Iterable, Sequence
from dataclasses import dataclass, field
from uuid import UUID

import structlog

from ops.log.reader import Offsets, TopicReader, read_through
from ops.replaying.finished import Asked
from ops.terminal.output import Advance, Output
from processor.consuming.lanes import Bounds, Cost, Lanes, Work
from processor.handler import Handler
from processor.rendering.fair import FairRenderer
from processor.rendering.pool import RenderPool
from processor.rendering.render import Rendering
from shared.consuming.record import ConsumedRecord
from shared.contract.events import Deleted, ImageCommand
from shared.contract.keys import Owner
from shared.contract.ladder import Ladder
from shared.contract.logged_command import LoggedFence, LoggedImageCommand, read_command
from shared.errors import PoisonRecord, Unavailable
from shared.retry import retry_unavailable
from shared.settings import Settings

log = structlog.get_logger()

AT_ONCE = 16
"""Commands under way: enough to keep this process busy, few enough that live requests find a short queue at S3."""
CLOSE_SECONDS = 10.0


@dataclass(frozen=True)
class Scope:
    """Which commands are meant; empty fields match all."""

    owner: Owner | None = None
    image: UUID | None = None

    def __call__(self, command: ImageCommand) -> bool:
        """Whether this command is meant."""
        return self.owner in (None, command.owner) and self.image in (None, command.image_id)


@dataclass
class Replayed:
    """What became of the commands: finished before, answered by type, failed with the reason."""

    commands: int = 0
    finished: int = 0
    fences: int = 0
    poison: int = 0
    answers: Counter[str] = field(default_factory=Counter)
    failures: dict[str, str] = field(default_factory=dict)


class PoolRenderer:
    """Renders in a pool of processes that starts with the first picture: most replays render nothing."""

    def __init__(self, settings: Settings) -> None:
        self.rendered = 0
        self._pool = RenderPool(settings.render_workers, settings.render_timeout.total_seconds())
        self._renderer = FairRenderer(self._pool, settings)
        self._starting = asyncio.Lock()
        self._started = False

    async def __call__(self, owner: Owner, data: bytes, ladder: Ladder) -> Rendering:
        """See processor.handler.Renderer."""
        async with self._starting:
            if not self._started:
                await self._pool.start()
                self._started = True
        self.rendered += 1
        return await self._renderer(owner, data, ladder)

    async def close(self) -> None:
        """End the processes, if there are any."""
        if self._started:
            await self._pool.close(CLOSE_SECONDS)


async def scan(
    reader: TopicReader, start: Offsets, end: Offsets, scope: Scope, epoch: int, done: Replayed, output: Output
) -> list[Asked]:
    """What the commands in scope ask for. Counts everything that is passed by."""
    found = []

    def take(records: Sequence[ConsumedRecord]) -> None:
        for record in records:
            try:
                logged = read_command(record, epoch)
            except PoisonRecord:
                done.poison += 1
                continue
            if isinstance(logged, LoggedFence):
                # Its effects are the live indexer's alone (invariant 9); what it deleted, it deleted through the log.
                done.fences += 1
            elif scope(logged.command):
                found.append(Asked.by(record, logged))

    await read_through(reader, start, end, take, output)
    done.commands += len(found)
    return found


async def records_of(reader: TopicReader, asked: Iterable[Asked]) -> AsyncIterator[ConsumedRecord]:
    """The records of these commands, in the order of each partition."""
    wanted: dict[int, set[int]] = {}
    for each in asked:
        partition, offset = each.place
        wanted.setdefault(partition, set()).add(offset)
    start = {partition: min(offsets) for partition, offsets in wanted.items()}
    end = {partition: max(offsets) + 1 for partition, offsets in wanted.items()}
    async for batch in reader.read(start, end):
        for record in batch:
            if record.offset in wanted[record.partition]:
                yield record


class Replayer:
    """Runs commands through the handler: in order per image, owners in turn, within the processor's bounds.

    1. The handler answers with what it finds in the bucket and publishes; versions make repetition harmless, and
       tombstones keep what was deleted away (invariant 6).
    2. Nothing is committed anywhere and no command is published: the live group never notices.
    """

    def __init__(self, settings: Settings, handler: Handler, done: Replayed) -> None:
        self._handler = handler
        self._epoch = settings.epoch
        self._done = done
        self._outage_retry_limit = settings.outage_retry_limit
        self._failure: BaseException | None = None
        self._idle = asyncio.Event()
        self._idle.set()
        self._open = 0
        bounds = Bounds(
            images=AT_ONCE, bytes=settings.max_inflight_bytes,
            # Nothing is decoded before a render slot is held, and there are as many as worker processes.
            pixels=AT_ONCE * settings.max_pixels, waiting=4 * AT_ONCE,
        )  # fmt: skip
        self._lanes = Lanes(bounds, self._fail)

    async def submit(self, record: ConsumedRecord) -> None:
        """Handle an image's command when its turn comes. Raises what stopped the replay."""
        if self._failure is not None:
            raise self._failure
        logged = read_command(record, self._epoch)
        if isinstance(logged, LoggedFence):
            raise TypeError("an owner's fence is no command of an image")
        command = logged.command
        size = 0 if isinstance(command, Deleted) else command.original.size

        async def handle() -> None:
            try:
                await self._handle(record, logged)
            finally:
                self._open -= 1
                if not self._open:
                    self._idle.set()

        self._open += 1
        self._idle.clear()
        await self._lanes.submit(Work(str(command.image_id), command.owner.key, Cost(size, 0), handle))

    async def finish(self) -> None:
        """Wait for everything that was submitted. Raises what stopped the replay."""
        await self._idle.wait()
        if self._failure is not None:
            raise self._failure

    async def close(self) -> None:
        """Cancel what is under way; nothing is half done, for every step may be repeated."""
        await self._lanes.close(0)

    async def _handle(self, record: ConsumedRecord, logged: LoggedImageCommand) -> None:
        try:
            event = await retry_unavailable(lambda: self._handler.handle(logged), self._outage_retry_limit)
        except Unavailable:
            raise
        except Exception as error:
            # Not a delivery: the live group has settled or dead-lettered it. Say so, and go on.
            log.warning("replay_failed", image_id=str(logged.command.image_id), error=repr(error))
            self._done.failures[f"{record.partition}:{record.offset}"] = f"{type(error).__name__}: {error}"
        else:
            self._done.answers[event.type if event else "none"] += 1

    def _fail(self, error: BaseException) -> None:
        self._failure = error
        self._idle.set()


async def handle_again(
    settings: Settings, reader: TopicReader, handler: Handler, todo: Sequence[Asked], done: Replayed, advance: Advance
) -> None:
    """Handle these commands, which `reader` reads once more. Raises what stopped it."""
    replayer = Replayer(settings, handler, done)
    try:
        async for record in records_of(reader, todo):
            await replayer.submit(record)
            advance()
        await replayer.finish()
    finally:
        await replayer.close()
