"""Random histories of one image, answered by the real processor's handler: the logs that are possible.

One worker handles the commands in log order, as lanes and ordered acks do. Beside it, at random: workers that the group
has removed and that continue late in the middle of any command up to the live one, redelivery, replays, the sweep of
superseded renders. Each call to the bucket may stall, so that effects interleave.
"""

import asyncio
import hashlib
import random
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

from processor.handler import Handler
from processor.rendering.render import RenderedVariant, Rendering
from shared.contract.encoding import decode_manifest
from shared.contract.events import Command, Event, Ready, Replaced, Reprocess, Uploaded
from shared.contract.keys import Owner, command_version, image_prefix, render_prefix
from shared.contract.ladder import Ladder
from shared.contract.logged_command import LoggedCommand, LoggedDelete, LoggedRenderCommand, versioned
from shared.errors import ImageRejected, Unavailable
from tests.support import records
from tests.support.memory.ports import MemoryEventLog, MemoryStore

DAY = datetime(2026, 5, 4, tzinfo=UTC)
LADDERS = (Ladder(), Ladder(full_quality=70), Ladder(full_quality=60))


@dataclass
class History:
    """A log: its commands, and every event in the order in which it was published."""

    commands: list[LoggedCommand]
    events: list[Event] = field(default_factory=list)


def plan(rng: random.Random) -> list[LoggedCommand]:
    """Commands of one image in log order. Gaps between offsets: other images of the owner are in the partition too."""
    image_id = _new_id(rng)
    owner = Owner(type="user", id=str(image_id))
    offset = rng.randrange(5)
    image_version = command_version(1, offset)
    first = LoggedRenderCommand(records.uploaded(image_id, _new_id(rng), owner), image_version)
    log: list[LoggedCommand] = [first]
    introducing = [first]
    for _ in range(rng.randint(0, 6)):
        offset += rng.randint(1, 3)
        version = command_version(1, offset)
        match rng.choices(("replace", "reprocess", "repeat", "delete"), (35, 30, 20, 15))[0]:
            case "replace":
                logged = LoggedRenderCommand(records.replaced(image_id, image_version, _new_id(rng), owner), version)
                introducing.append(logged)
            case "reprocess":
                # Planned from a row that may be older than the end of the log.
                source = rng.choice(introducing)
                command = records.reprocess(
                    image_id, image_version, source.command.revision, source.version, owner, rng.choice(LADDERS)
                )
                logged = LoggedRenderCommand(command, version)
            case "repeat":
                # A client's retry under one Idempotency-Key: the same ids at a new offset.
                logged = LoggedRenderCommand(rng.choice(introducing).command, version)
                introducing.append(logged)
            case _:
                log.append(LoggedDelete(records.deleted(image_id, owner), version))
                continue
        log.append(logged)
    return log


def _new_id(rng: random.Random) -> UUID:
    return records.id_at(DAY, rng.getrandbits(62))


class _StallingStore(MemoryStore):
    """Every call may let other tasks run first, for a short or a very long time."""

    def __init__(self, rng: random.Random) -> None:
        super().__init__()
        self.rng = rng

    def __getattribute__(self, name: str) -> Any:
        method = super().__getattribute__(name)
        if name not in ("put", "get", "list", "delete"):
            return method

        async def stalled(*args: Any, **options: Any) -> Any:
            for _ in range(self.rng.choice((0, 0, 1, 2, 5, 60))):
                await asyncio.sleep(0)
            return await method(*args, **options)

        return stalled


class _Renderer:
    """Renders nothing: whether a revision can be rendered, and with which ladder, is decided per history."""

    def __init__(self, rng: random.Random) -> None:
        self._rng = rng
        self._bad: dict[bytes, bool] = {}
        self._flaky = rng.random() < 0.4

    async def __call__(self, owner: Owner, data: bytes, ladder: Ladder) -> Rendering:
        await asyncio.sleep(0)
        bad = self._bad.setdefault(data, self._rng.random() < 0.3)
        # Time-outs and crashes of the decoder differ from one attempt to the next.
        if bad or (self._flaky and self._rng.random() < 0.3):
            raise ImageRejected(self._rng.choice(("timeout", "crashed_decoder", "truncated")), "as decided")
        variants = tuple(
            RenderedVariant(name, data + name.encode(), 8, 8, hashlib.sha256(data + name.encode()).hexdigest())
            for name in ladder.names
        )
        return Rendering(8, 8, variants, thumbhash="AAAA", dominant_color="#101010", notes=())


class _World:
    def __init__(self, log: list[LoggedCommand], rng: random.Random) -> None:
        self.log = log
        self.rng = rng
        self.store = _StallingStore(rng)
        self.published = MemoryEventLog()
        self.handler = Handler(self.store, _Renderer(rng), self.published, records.BASE)
        self.tasks: list[asyncio.Task[None]] = []

    async def play(self) -> list[Event]:
        await self._upload()
        for position in range(len(self.log)):
            # The group removed the worker before this one. It continues, although its partition has another worker.
            if self.rng.random() < 0.3:
                self._start(position)
            await self._handle(position)
            if self.rng.random() < 0.4:
                # Redelivery and replay: any command up to here may be handled again, at its own pace.
                self._start(self.rng.randint(0, position))
            if self.rng.random() < 0.2:
                await self._sweep()
        await asyncio.gather(*self.tasks)
        return self.published.events

    async def _upload(self) -> None:
        for logged in self.log:
            command = logged.command
            if isinstance(command, Uploaded | Replaced) and self.rng.random() > 0.05:
                data = str(command.revision).encode()
                await MemoryStore.put(self.store, command.original.path, data, "image/jpeg")

    def _start(self, position: int) -> None:
        self.tasks.append(asyncio.create_task(self._handle(position)))

    async def _handle(self, position: int) -> None:
        while True:
            try:
                await self.handler.handle(self.log[position])
                return
            except Unavailable:
                # A worker that the sweep or a delete interrupts handles the command from its beginning.
                continue

    async def _sweep(self) -> None:
        """Delete the variants of superseded renders, and the originals of revisions before the best ready one.

        Their manifests stay: from its own manifest a repeated command still learns that it was superseded.
        """
        image_id = _image_id(self.log)
        keys = [item.key for item in await MemoryStore.list(self.store, image_prefix(image_id))]
        manifests = [decode_manifest(self.store.objects[key].data) for key in keys if key.endswith("/manifest.json")]
        ready = [manifest for manifest in manifests if isinstance(manifest.event, Ready)]
        if not ready:
            return
        best = max(ready, key=lambda manifest: manifest.precedence)
        for manifest in manifests:
            request = manifest.event.request
            if manifest.precedence < best.precedence:
                prefix = render_prefix(image_id, request.revision, manifest.render)
                variants = [key for key in keys if key.startswith(prefix) and key.endswith(".webp")]
                await MemoryStore.delete(self.store, variants)
            # A revision uploaded twice has two versions: that of the best render keeps its original.
            newer = best.event.request
            if request.revision != newer.revision and request.revision_version < newer.revision_version:
                await MemoryStore.delete(self.store, [request.path])


def _image_id(log: list[LoggedCommand]) -> UUID:
    command = log[0].command
    assert isinstance(command, Uploaded)
    return command.image_id


async def history(seed: int) -> History:
    """The history of this seed: every command has been answered, most several times and some differently."""
    rng = random.Random(seed)
    log = plan(rng)
    log = [versioned(_with_digest(logged.command), logged.version) for logged in log]
    return History(log, await _World(log, rng).play())


def _with_digest(command: Command) -> Command:
    if not isinstance(command, Uploaded | Replaced | Reprocess):
        return command
    digest = hashlib.sha256(str(command.revision).encode()).hexdigest()
    return command.model_copy(update={"original": command.original.model_copy(update={"sha256": digest})})
