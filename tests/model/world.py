"""One image's history at random: the real handler over a bucket in memory, with a stall before every effect.

Live work is in log order, and may crash. Beside it are workers that the group has removed and that continue late,
redeliveries, replays of older commands, and the sweep. Some histories begin with a version that wrote no markers.
Index writes arrive shuffled and repeated. What must hold at the end is `verdict`.
"""

import asyncio
import hashlib
import random
from collections.abc import Sequence
from contextlib import suppress
from contextvars import ContextVar
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

from ops.bucket.listing import sort_objects
from ops.bucket.superseded import FoundManifest, best_ready, deciding_manifests, superseded
from processor.handler import Handler
from processor.rendering.render import RenderedVariant, Rendering
from shared.contract.encoding import decode_manifest
from shared.contract.events import Command, Deleted, Event, Failed, Original, Ready, Replaced, Reprocess, Uploaded
from shared.contract.keys import (
    MARKERS_FOLDER,
    Owner,
    command_version,
    image_prefix,
    markers_prefix,
    new_id,
    original_key,
)
from shared.contract.ladder import Ladder, Rung
from shared.contract.logged_command import LoggedDelete, versioned
from shared.errors import ImageRejected, Unavailable
from shared.ports import LIST_PAGE, ObjectInfo
from shared.read_model import documents
from shared.read_model.documents import ImageRow
from shared.read_model.tables import IMAGES, Delete, Update, Write, command_writes, event_writes
from tests.support import images
from tests.support.memory.ports import MemoryIndex, MemoryStore

EPOCH = 1
SHARDS = 2
BASE = "https://img.example.org"
LADDER = Ladder(rungs=(Rung(name="small", width=320, fraction=0.5, quality=75),))
OTHER_LADDER = Ladder(rungs=(Rung(name="small", width=320, fraction=0.5, quality=60),))
# Two encodings of each variant, as two versions of the encoder give them.
ENCODINGS = [images.encode(images.solid((shade, 0, 0), size=(4, 3)), "WEBP") for shade in (10, 240)]

ORDERS = 3
"""Orders in which the writes of a history arrive."""
LATE = 4
"""Number of late workers at the same time."""

AFTERWARDS = datetime(9999, 1, 1, tzinfo=UTC)

Bugs = frozenset[str]


class Worker:
    """One attempt at one command. It stalls before each effect until it is released."""

    def __init__(self, position: int, wakes: int = 0) -> None:
        self.position = position
        self.wakes = wakes
        self.gates: list[asyncio.Future[None]] = []
        self.puts_marker = False
        """Whether its next effect is a marker."""
        self.task: asyncio.Task[None] | None = None

    async def stall(self) -> None:
        gate = asyncio.get_running_loop().create_future()
        self.gates.append(gate)
        await gate

    async def step(self, rng: random.Random) -> bool:
        """Let one effect happen; True once the attempt is over."""
        assert self.task is not None
        if self.gates:
            self.gates.pop(rng.randrange(len(self.gates))).set_result(None)
        # Two rounds carry the effect out; more until the attempt stalls again or ends.
        for _ in range(2):
            await asyncio.sleep(0)
        while not self.gates and not self.task.done():  # noqa: ASYNC110 - a task in memory sends no event
            await asyncio.sleep(0)
        return self.task.done()


_worker: ContextVar[Worker] = ContextVar("worker")


class StallingStore(MemoryStore):
    """A bucket in memory whose every call waits for its worker to be released.

    A page has at most `page_limit` objects, so that the few objects of an image are as many pages as thousands.
    """

    def __init__(self, page_limit: int) -> None:
        super().__init__()
        self._page_limit = page_limit

    async def put(self, key: str, data: bytes, content_type: str, *, if_absent: bool = False) -> str:
        worker = _worker.get()
        worker.puts_marker = f"/{MARKERS_FOLDER}/" in key
        await worker.stall()
        worker.puts_marker = False
        return await super().put(key, data, content_type, if_absent=if_absent)

    async def get(self, key: str) -> bytes:
        await _worker.get().stall()
        return await super().get(key)

    async def page(
        self, prefix: str, token: str | None = None, *, after: str = "", limit: int = LIST_PAGE
    ) -> tuple[Sequence[ObjectInfo], str | None]:
        await _worker.get().stall()
        return await super().page(prefix, token, after=after, limit=min(limit, self._page_limit))

    async def list(self, prefix: str) -> Sequence[ObjectInfo]:
        await _worker.get().stall()
        return await super().list(prefix)

    async def delete(self, keys: Any) -> None:
        await _worker.get().stall()
        await super().delete(keys)


@dataclass
class StallingEvents:
    """The events topic, whose every write waits for its worker to be released."""

    events: list[Event] = field(default_factory=list)

    async def publish(self, event: Event, *, traceparent: str | None = None) -> None:
        await _worker.get().stall()
        self.events.append(event)


def history(rng: random.Random, image_id: UUID, owner: Owner, *, duplicates: bool) -> list[Command]:
    """An upload, then replacements, reprocesses of any earlier revision and deletions; some commands twice.

    A third of the histories are short and end in a deletion, so that late workers often meet it.
    """
    first = Uploaded(image_id=image_id, owner=owner, revision=new_id(), original=_original(image_id), ladder=LADDER)
    first = first.model_copy(update={"original": _original(image_id, first.revision)})
    log: list[Command] = [first]
    if rng.random() < 1 / 3:
        replaced = [_replacement(first, new_id())] if rng.random() < 0.5 else []
        return [first, *replaced, Deleted(image_id=image_id, owner=owner)]
    revisions = [(first.revision, version_at(0))]
    for _ in range(rng.randint(1, 5)):
        kind = rng.random()
        if kind < 0.45:
            revision = new_id()
            revisions.append((revision, version_at(len(log))))
            log.append(_replacement(first, revision))
        elif kind < 0.75:
            log.append(_reprocess(first, *rng.choice(revisions), ladder=rng.choice((LADDER, OTHER_LADDER))))
        elif kind < 0.9:
            log.append(Deleted(image_id=image_id, owner=owner))
        elif duplicates:
            log.append(rng.choice([command for command in log if not isinstance(command, Deleted)]))
    return log


def _original(image_id: UUID, revision: UUID | None = None) -> Original:
    data = original_bytes(revision)
    path = original_key(image_id, revision or image_id, "image/png")
    return Original(
        file_name="a.png",
        content_type="image/png",
        size=len(data),
        width=8,
        height=6,
        sha256=hashlib.sha256(data).hexdigest(),
        path=path,
        url=documents.media_url(BASE, path),
    )


def original_bytes(revision: UUID | None) -> bytes:
    return str(revision).encode()


def _replacement(first: Uploaded, revision: UUID) -> Replaced:
    return Replaced(
        image_id=first.image_id,
        owner=first.owner,
        image_version=version_at(0),
        revision=revision,
        original=_original(first.image_id, revision),
        ladder=LADDER,
    )


def _reprocess(first: Uploaded, revision: UUID, revision_version: int, ladder: Ladder) -> Reprocess:
    return Reprocess(
        image_id=first.image_id,
        owner=first.owner,
        image_version=version_at(0),
        revision=revision,
        revision_version=revision_version,
        original=_original(first.image_id, revision),
        ladder=ladder,
    )


def version_at(position: int) -> int:
    return command_version(EPOCH, position)


@dataclass(frozen=True)
class Indexed:
    """What one order of the writes shows: the row at the end, and whether the image was seen after its deletion."""

    row: ImageRow | None
    seen_after_deletion: bool


class World:
    """Bucket, topics and workers of one history. `bugs` are the names of deliberate bugs in the harness."""

    def __init__(self, seed: int, *, duplicates: bool, bugs: Bugs = frozenset()) -> None:
        self.rng = random.Random(seed)
        self.bugs = bugs
        self.image_id = new_id()
        self.owner = Owner(type="user", id="1")
        commands = history(self.rng, self.image_id, self.owner, duplicates=duplicates)
        self.log = [versioned(command, version_at(position)) for position, command in enumerate(commands)]
        self.store = StallingStore(self.rng.choice((2, 6, LIST_PAGE)))
        self.events = StallingEvents()
        self.introduced = {
            logged.command.revision: logged.version
            for logged in reversed(self.log)
            if isinstance(logged.command, Uploaded | Replaced)
        }
        self.unreadable = {revision for revision in self.introduced if self.rng.random() < 0.3}
        self.flaky = self.rng.random() < 0.5
        self.swept = False
        self.upgrade_at = self.rng.randrange(len(self.log)) if self.rng.random() < 0.5 else 0
        """Number of commands that an earlier version has handled, which wrote no markers."""
        self.upgraded = self.upgrade_at == 0
        self.handler = Handler(self.store, self._render, self.events, BASE)

    async def _render(self, owner: Owner, data: bytes, ladder: Ladder) -> Rendering:
        await _worker.get().stall()
        revision = UUID(data.decode())
        if revision in self.unreadable or (self.flaky and self.rng.random() < 0.2):
            raise ImageRejected("undecodable", "The decoder could not read the picture.")
        variants = tuple(self._variant(name) for name in ladder.names)
        return Rendering(4, 3, variants, thumbhash="", dominant_color="#000000", notes=())

    def _variant(self, name: str) -> RenderedVariant:
        data = self.rng.choice(ENCODINGS)
        return RenderedVariant(name, data, 4, 3, hashlib.sha256(data).hexdigest())

    async def run(self) -> None:
        """Play the history to its end: every command is handled and every late worker has ended."""
        for revision in self.introduced:
            key = original_key(self.image_id, revision, "image/png")
            await MemoryStore.put(self.store, key, original_bytes(revision), "image/png")
        rng, live, late, position, steps = self.rng, None, list[Worker](), 0, 0
        while position < len(self.log) or live or late:
            steps += 1
            choice = rng.random()
            ending = not self.upgraded and position == self.upgrade_at
            if ending and not late:
                self._upgrade()
            elif live is None and position < len(self.log) and not ending:
                live = self._start(Worker(position))
            if live and choice < 0.04 and len(late) < LATE:
                # The group has removed it: its record is delivered again, and it continues some time later.
                live.wakes = steps + rng.choice((0, 5, 20, 60))
                late.append(live)
                live = self._start(Worker(live.position))
            elif live and choice < (0.3 if live.puts_marker else 0.08):
                live = await self._crash(live)
            elif choice < 0.1 and position > 0 and len(late) < LATE and not ending:
                late.append(self._start(Worker(rng.randrange(position), steps + rng.choice((0, 5, 20)))))
            elif choice < 0.12:
                self._sweep()
            elif late and choice < 0.4:
                await self._step_late(late, steps, finish=ending or (live is None and position == len(self.log)))
            elif live and await live.step(rng):
                position, live = self._after(live, position)

    def _upgrade(self) -> None:
        """All workers of the earlier version have ended; the next one is of the present version."""
        self.upgraded = True
        for key in [key for key in self.store.objects if key.startswith(markers_prefix(self.image_id))]:
            del self.store.objects[key]

    async def _crash(self, worker: Worker) -> Worker:
        """The worker is killed between two effects. Its record is delivered again."""
        assert worker.task is not None
        worker.task.cancel()
        with suppress(asyncio.CancelledError):
            await worker.task
        return self._start(Worker(worker.position))

    def _after(self, worker: Worker, position: int) -> tuple[int, Worker | None]:
        """An answered command is followed by the next; one that met an outage is tried again."""
        assert worker.task is not None
        error = worker.task.exception()
        if isinstance(error, Unavailable):
            return position, self._start(Worker(worker.position))
        if error is not None:
            raise error
        return position + 1, None

    async def _step_late(self, late: list[Worker], steps: int, *, finish: bool) -> None:
        worker = self.rng.choice(late)
        if worker.wakes > steps and not finish:
            return
        if await worker.step(self.rng):
            late.remove(worker)
            assert worker.task is not None
            error = worker.task.exception()
            # No caller waits for a late worker's answer, but its process would retry too.
            if isinstance(error, Unavailable):
                late.append(self._start(Worker(worker.position)))
            elif error is not None:
                raise error

    def _start(self, worker: Worker) -> Worker:
        token = _worker.set(worker)
        worker.task = asyncio.create_task(self._attempt(worker))
        _worker.reset(token)
        return worker

    async def _attempt(self, worker: Worker) -> None:
        await self.handler.handle(self.log[worker.position])

    def _sweep(self) -> None:
        """What `imagepipe gc` would delete now, if renders were superseded without delay."""
        self.swept = True
        image = sort_objects(self.image_id, self.listed())
        manifests = {info.key: self._found(info) for info in deciding_manifests(image)}
        doomed = superseded(image, manifests, now=AFTERWARDS, delay=timedelta())
        for info in doomed:
            del self.store.objects[info.key]
        best = best_ready(manifests.values(), AFTERWARDS)
        if "sweep_guess" in self.bugs and best is not None:
            for revision in self.introduced.keys() - {best.manifest.event.request.revision}:
                self.store.objects.pop(original_key(self.image_id, revision, "image/png"), None)

    def _found(self, info: ObjectInfo) -> FoundManifest:
        return FoundManifest(decode_manifest(self.store.objects[info.key].data), info.modified)

    def listed(self) -> list[ObjectInfo]:
        """The image's objects, its tombstone aside."""
        stored = self.store.objects.items()
        return [
            ObjectInfo(key, len(found.data), found.etag, found.modified)
            for key, found in sorted(stored)
            if key.startswith(image_prefix(self.image_id))
        ]

    def writes(self) -> list[Write]:
        """Every write of the history to the table of images: those of the commands and those of all answers."""
        found = [write for logged in self.log for write in command_writes(logged, SHARDS)]
        for event in self.events.events:
            found += event_writes(event, SHARDS)
            if "outcome" in self.bugs and event.answers == "image.reprocess":
                as_replaced = event.model_copy(update={"answers": "image.replaced"})
                writes = event_writes(as_replaced, SHARDS)
                found += [write for write in writes if isinstance(write, Update) and "outcome" in write.columns]
        return [write for write in found if write.table == IMAGES]

    async def indexed(self) -> list[Indexed]:
        """What the index shows of the image if its writes arrive in one of several random orders, some of them twice.

        A deletion is final if it is above every upload of the image. Only a repeated upload can be above one: it makes
        the image exist until its answer `removed`.
        """
        uploaded = max(logged.version for logged in self.log if isinstance(logged.command, Uploaded))
        writes = self.writes()
        return [await self._index(arrivals(writes, order), uploaded) for order in range(ORDERS)]

    async def _index(self, writes: Sequence[Write], uploaded: int) -> Indexed:
        index, deleted, seen = MemoryIndex(), False, False
        for write in writes:
            index.apply_one(write)
            deleted = deleted or (isinstance(write, Delete) and write.version > uploaded)
            seen = seen or (deleted and await index.image(self.image_id) is not None)
        return Indexed(await index.image(self.image_id), seen)


def arrivals(writes: Sequence[Write], order: int) -> list[Write]:
    """The writes in one of many random orders, some of them twice."""
    rng = random.Random(order)
    found = [*writes, *(write for write in writes if rng.random() < 0.3)]
    rng.shuffle(found)
    return found


async def verdict(world: World) -> str | None:
    """The violation at the end of the history, or None."""
    indexed = await world.indexed()
    rows = [each.row for each in indexed]
    if len({documents.status(row) if row else None for row in rows}) > 1:
        return "does not converge"
    answered = {event.version for event in world.events.events}
    if answered != {logged.version for logged in world.log}:
        return "a command without an answer"
    if not world.swept and _answered_differently(world.events.events):
        return "one command, two results"
    if any(isinstance(event, Failed) and event.error.type == "original_lost" for event in world.events.events):
        return "an original that was only swept is called lost"
    if any(write.version <= event.version for event in world.events.events for write in _effects(event)):
        return "an answer that takes effect no later than its command"
    if any(each.seen_after_deletion for each in indexed):
        return "a deleted image is seen again"
    if any(isinstance(logged, LoggedDelete) for logged in world.log):
        if rows[0] is not None:
            return "a deleted image has a row"
        return "a deleted image has objects" if world.listed() else None
    assert rows[0] is not None
    return _live_verdict(world, rows[0]) or _stored_verdict(world)


def _answered_differently(events: Sequence[Event]) -> bool:
    """Whether a command was answered with two results. Without a sweep no manifest changes after it is written."""
    results: dict[int, Event] = {}
    for event in events:
        if isinstance(event, Ready | Failed) and results.setdefault(event.version, event) != event:
            return True
    return False


def _effects(event: Event) -> list[Write]:
    """What an answer changes; the request, which it repeats, is the command's own."""
    return [write for write in event_writes(event, SHARDS) if isinstance(write, Delete) or _is_effect(write)]


def _is_effect(write: Write) -> bool:
    return isinstance(write, Update) and bool(write.columns.keys() & {"outcome", "current"})


def _live_verdict(world: World, row: ImageRow) -> str | None:
    requests = [logged.command for logged in world.log if isinstance(logged.command, Uploaded | Replaced)]
    latest = requests[-1].revision
    status = documents.status(row)
    if status == "processing":
        return "processing for ever"
    if row.current and any(variant.path not in world.store.objects for variant in row.current.variants):
        return "the row points to objects that are gone"
    if row.current and row.current.original.path not in world.store.objects:
        return "the row points to an original that is gone"
    repeated = len({command.revision for command in requests}) < len(requests)
    if repeated:
        return None
    if original_key(world.image_id, latest, "image/png") not in world.store.objects:
        return "the original of the latest revision is gone"
    shown = row.current.revision if row.current else None
    if status == "ready" and shown != latest and row.outcome and row.outcome.revision == latest:
        return "ready, and shows an older revision"
    return None


def _stored_verdict(world: World) -> str | None:
    """The latest ready manifest describes exactly what is stored beside it; those before it may be swept."""
    stored = {key: decode_manifest(found.data) for key, found in world.store.objects.items() if key.endswith(".json")}
    ready = [manifest for manifest in stored.values() if isinstance(manifest.event, Ready)]
    best = max(ready, key=lambda found: found.precedence, default=None)
    if best is not None and isinstance(best.event, Ready):
        for variant in best.event.current.variants:
            found = world.store.objects.get(variant.path)
            if found is None or hashlib.sha256(found.data).hexdigest() != variant.sha256:
                return "the latest manifest describes something else than what is stored"
    return None
