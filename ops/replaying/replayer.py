"""Handles commands of the log again, during live traffic, with the processor's handler."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Iterable, Sequence
from dataclasses import dataclass, field
from uuid import UUID

import structlog

from ops.log.reader import Offsets, TopicReader, read_through
from ops.log.skipped import Skipped
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
"""Commands that are handled concurrently. They keep this process busy, and few enough wait for S3 that live requests
are not slowed down."""
CLOSE_SECONDS = 10.0


@dataclass(frozen=True)
class Scope:
    """Selects commands. A field that is None matches all commands."""

    owner: Owner | None = None
    image: UUID | None = None

    def __call__(self, command: ImageCommand) -> bool:
        """Whether this command is selected."""
        return self.owner in (None, command.owner) and self.image in (None, command.image_id)


@dataclass
class Replayed:
    """The result of a replay: number of finished commands, answers of each type, and failures.

    `failures` maps the place of a command, `partition:offset`, to the error.
    """

    commands: int = 0
    finished: int = 0
    fences: int = 0
    skipped: Skipped = field(default_factory=Skipped)
    answers: Counter[str] = field(default_factory=Counter)
    failures: dict[str, str] = field(default_factory=dict)


class PoolRenderer:
    """Renders in a pool that starts its processes with the first image, because most replays render nothing."""

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
        """End the processes, if they were started."""
        if self._started:
            await self._pool.close(CLOSE_SECONDS)


async def scan(
    reader: TopicReader, start: Offsets, end: Offsets, scope: Scope, epoch: int, done: Replayed, output: Output
) -> list[Asked]:
    """The commands in scope. Fences and records that cannot be parsed are only counted, in `done`."""
    found = []

    def take(records: Sequence[ConsumedRecord]) -> None:
        for record in records:
            try:
                logged = read_command(record, epoch)
            except PoisonRecord as error:
                done.skipped.add(record, error)
                continue
            if isinstance(logged, LoggedFence):
                # Only the live indexer applies a fence (invariant 9). Its deletions are in the log as commands.
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
    """Passes commands to the handler: in order for each image, owners in turn, within the processor's bounds.

    1. The handler computes the answer from the bucket and publishes it. A repeated answer changes no row, because it
       has the same version. Because of the tombstones no deleted image is restored (invariant 6).
    2. The replay commits no positions and appends no commands, so it does not affect the live consumer groups.
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
            # The render slots limit the decoded pixels, so the lanes need not.
            pixels=AT_ONCE * settings.max_pixels, waiting=4 * AT_ONCE,
        )  # fmt: skip
        self._lanes = Lanes(bounds, self._fail)

    async def submit(self, record: ConsumedRecord) -> None:
        """Queue the command of an image. Raises the error that stopped the replay."""
        if self._failure is not None:
            raise self._failure
        logged = read_command(record, self._epoch)
        if isinstance(logged, LoggedFence):
            raise TypeError("a fence cannot be replayed")
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
        """Wait for all submitted commands. Raises the error that stopped the replay."""
        await self._idle.wait()
        if self._failure is not None:
            raise self._failure

    async def close(self) -> None:
        """Cancel the running commands. That is safe, because every step may be repeated."""
        await self._lanes.close(0)

    async def _handle(self, record: ConsumedRecord, logged: LoggedImageCommand) -> None:
        try:
            event = await retry_unavailable(lambda: self._handler.handle(logged), self._outage_retry_limit)
        except Unavailable:
            raise
        except Exception as error:
            # The replay reports the failure and continues. It need not dead-letter the command, because the live group
            # has settled it.
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
    """Handle these commands; `reader` reads them again. Raises the error that stopped the replay."""
    replayer = Replayer(settings, handler, done)
    try:
        async for record in records_of(reader, todo):
            await replayer.submit(record)
            advance()
        await replayer.finish()
    finally:
        await replayer.close()
