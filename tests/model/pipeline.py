"""The whole pipeline at random: clients over the gateway's write path, the real agent and the real indexer, in memory.

Every effect waits until the scheduler draws it. Processes crash, or are replaced while they still run. A replaced
process continues as a zombie whose commits are refused. What must hold at the end is `verdict`.
"""

import asyncio
import hashlib
import json
import random
from collections import defaultdict
from collections.abc import Callable, Coroutine, Iterable, Mapping
from datetime import timedelta
from functools import partial
from typing import Any, Protocol
from uuid import UUID

from gateway.container import Services
from gateway.http.problems import Problem
from gateway.reading.lists import ListQuery
from gateway.receiving.checking import CheckedFile
from gateway.services.claims import Claims
from gateway.services.set_leases import SetLeases
from gateway.services.succession import Successions
from gateway.writing.removal import clear_owner, delete_image, replaceable_image
from gateway.writing.replacing import replace_set
from gateway.writing.uploads import Accepted
from indexer.delivery import Delivery as IndexerDelivery
from indexer.fence import Fence
from indexer.handler import Handler as IndexerHandler
from indexer.partition import Partition
from processor.consuming.agent import Agent
from processor.consuming.delivery import Delivery
from processor.consuming.lanes import Bounds
from processor.handler import Handler
from processor.rendering.render import RenderedVariant, Rendering
from shared.contract.encoding import decode_command, decode_event
from shared.contract.events import Event, OwnerCleared, Uploaded
from shared.contract.image_header import inspect
from shared.contract.keys import Ids, Owner, command_version, image_prefix, new_id, parse_media_path
from shared.contract.ladder import Ladder
from shared.contract.logged_command import LoggedCommand, LoggedDelete, LoggedFence, LoggedRenderCommand, versioned
from shared.errors import Unavailable
from shared.ports import LIST_PAGE
from shared.read_model.documents import ImageRow
from shared.read_model.tables import BY_OWNER, IMAGES, command_writes, event_writes
from shared.settings import Topic
from tests.model.engines import PARTITIONS, GatewayIndex, StalledIndex, StalledLog, StalledStore, Stalls
from tests.support import images
from tests.support.delivery import policy_of
from tests.support.memory.gateway import MemoryClaimTable, MemoryLeaseTable, memory_settings
from tests.support.memory.ports import MemoryDeadLetters, MemoryIndex, is_image

Place = tuple[Topic, int]
EPOCH = 1
SHARDS = 4
REQUESTS = 12
"""Of one client, one after the other."""
SETS = 0.5
"""Share of the histories in which all clients work on one owner, mostly with sets and clears."""
ENDED = 0.3
"""Share of the sets whose lease ends when their uploads begin, as if their gateway stalled from then on."""
OWNERS = (Owner(type="user", id="1"), Owner(type="user", id="2"), Owner(type="user", id="3"))
TROUBLES = 5
"""Crashes and take-overs of one history."""
PICTURE = images.encode(images.solid((9, 9, 9), size=(4, 3)), "PNG")
SHA256 = hashlib.sha256(PICTURE).hexdigest()
RENDERED = images.encode(images.solid((9, 9, 9), size=(4, 3)), "WEBP")
LADDER = Ladder(rungs=())
LEASE = timedelta(seconds=30)
ACTIONS = ("upload", "replace", "delete", "clear", "set", "old set", "read")
WEIGHTS = (40, 13, 13, 11, 12, 5, 6)
SET_WEIGHTS = (10, 20, 2, 15, 30, 3, 20)
"""How often a client takes each action, in histories of many owners and of one."""
NOTHING_MOVES = 40
"""Rounds of the loop after which, with no effect waited for, everything has ended."""


class EndingLeases(MemoryLeaseTable):
    """Leases of which some end when the uploads of their set begin."""

    def __init__(self, rng: random.Random) -> None:
        super().__init__()
        self._rng = rng

    async def renew(self, scope: str, holder: UUID, duration: timedelta, *, unfenced: bool = False) -> bool:
        renewed = await super().renew(scope, holder, duration, unfenced=unfenced)
        if renewed and unfenced and self._rng.random() < ENDED:
            del self.holders[scope]
        return renewed


class Process(Protocol):
    """One process of a consumer. `failed` when it ended itself."""

    failed: bool

    async def crash(self) -> None:
        """None of its pending effects happens any more."""

    async def commit(self) -> None:
        """Commit what is settled, if the group still knows this process."""


class ProcessorProcess:
    """The agent, fed from the committed positions."""

    def __init__(self, world: "Pipeline") -> None:
        self.failed = False
        self._crashed = False
        self._world = world
        handler = Handler(world.store, world.render, world.log, "https://img.example.org")
        self._agent = Agent(
            Delivery(handler, policy_of(world.dead_letters)),
            Bounds(images=4, bytes=10**9, pixels=10**9, waiting=6),
            epoch=EPOCH,
            commit=self._commit,
            on_failure=self._fail,
        )
        self._feeding = asyncio.create_task(self._feed(dict(world.positions)))

    async def _feed(self, positions: dict[Place, int]) -> None:
        while True:
            found = [
                records[positions[Topic.COMMANDS, partition]]
                for partition, records in enumerate(self._world.log.commands)
                if len(records) > positions[Topic.COMMANDS, partition]
            ]
            if not found:
                await self._world.log.more()
                continue
            record = self._world.rng.choice(found)
            positions[Topic.COMMANDS, record.partition] += 1
            await self._agent.accept(record)

    def _fail(self, _error: BaseException) -> None:
        self.failed = True

    async def _commit(self, positions: Mapping[int, int]) -> bool:
        if self._crashed or self._world.processes["processor"] is not self:
            return False
        self._world.positions.update({(Topic.COMMANDS, number): offset for number, offset in positions.items()})
        return True

    async def commit(self) -> None:
        await self._agent.commit()

    async def crash(self) -> None:
        self._crashed = True
        self._feeding.cancel()
        await self._agent.close(0)


class IndexerProcess:
    """The indexer's partitions, fed from the committed positions."""

    def __init__(self, world: "Pipeline") -> None:
        self.failed = False
        self._world = world
        fence = Fence(world.index, world.log, epoch=EPOCH, shards=SHARDS, on_progress=lambda: None)
        handler = IndexerHandler(world.index, shards=SHARDS, concurrency=4, fence=fence)
        delivery = IndexerDelivery(handler, policy_of(world.dead_letters), epoch=EPOCH)
        self._partitions = {place: Partition(delivery.deliver, self._fail, 20) for place in world.indexed}
        self._feeds = [asyncio.create_task(self._feed(*item)) for item in world.indexed.items()]

    async def _feed(self, place: Place, position: int) -> None:
        topic, number = place
        records = self._world.log.commands[number] if topic is Topic.COMMANDS else self._world.log.events
        partition = self._partitions[place]
        while True:
            if len(records) <= position:
                await self._world.log.more()
            elif partition.has_room:
                partition.start(records[position])
                position += 1
            else:
                await asyncio.sleep(0)

    def _fail(self, _error: BaseException) -> None:
        self.failed = True

    async def commit(self) -> None:
        if self._world.processes["indexer"] is self and not self.failed:
            moved = {place: part.position for place, part in self._partitions.items() if part.position is not None}
            self._world.indexed.update(moved)

    async def crash(self) -> None:
        for feed in self._feeds:
            feed.cancel()
        await asyncio.gather(*(partition.close() for partition in self._partitions.values()))


class Pipeline:
    """One history. Everything random in it comes from the seed."""

    def __init__(self, seed: int) -> None:
        self.rng = random.Random(seed)
        self._stall = Stalls(self.rng)
        self.store = StalledStore(self._stall, self.rng.choice((2, 6, LIST_PAGE)))
        self.index = StalledIndex(self._stall)
        self.log = StalledLog(self._stall, self.rng)
        self.dead_letters = MemoryDeadLetters()
        self.positions: dict[Place, int] = {(Topic.COMMANDS, number): 0 for number in range(PARTITIONS)}
        self.indexed: dict[Place, int] = {**self.positions, (Topic.EVENTS, 0): 0}
        self.acknowledged: dict[UUID, Owner] = {}
        """Images whose upload a gateway has acknowledged, with their owners."""
        self.deleted: set[UUID] = set()
        """Ids of images for which a client sent a delete."""
        self.gone: dict[UUID, Owner] = {}
        """The same of images whose delete a gateway has acknowledged."""
        self.seen_again: set[UUID] = set()
        """Those of them that were in the index afterwards, at any time."""
        self.sets: list[tuple[Owner, list[int]]] = []
        """The versions of the uploads of each acknowledged set."""
        self.violations: list[str] = []
        """What a client saw that no gateway may show."""
        self._cleared: dict[Owner, int] = {}
        """The highest bound of an owner's acknowledged clears and sets."""
        self._since: dict[Owner, set[UUID]] = {}
        """The images that the index had of an owner at any time after the latest of these answers."""
        self._sets_only = self.rng.random() < SETS
        # Of its own, so that the histories of the other requests do not depend on it.
        self._also_replaces = random.Random(seed)
        self._make: dict[str, Callable[[], Process]] = {
            "processor": partial(ProcessorProcess, self),
            "indexer": partial(IndexerProcess, self),
        }
        self.processes: dict[str, Process] = {}
        self._zombies: list[Process] = []
        table, lease = MemoryClaimTable(), timedelta(seconds=60)
        self._services = Services(
            # Only the gateway's own changes invalidate its caches.
            memory_settings(ladder=LADDER, list_cache_ttl=timedelta(hours=1)),
            self.store,
            GatewayIndex(self._stall, self.rng, self.index),
            self.log,
            Claims(table, lease),
            Successions(table, lease),
            SetLeases(EndingLeases(self.rng), LEASE),
        )

    async def render(self, owner: Owner, data: bytes, ladder: Ladder) -> Rendering:
        await self._stall()
        variants = tuple(
            RenderedVariant(name, RENDERED, 4, 3, hashlib.sha256(RENDERED).hexdigest()) for name in ladder.names
        )
        return Rendering(4, 3, variants, thumbhash="", dominant_color="#000000", notes=())

    async def run(self) -> None:
        """Play the history until nothing is left to do."""
        self.processes = {name: make() for name, make in self._make.items()}
        clients = [asyncio.create_task(client) for client in self._clients()]
        troubles, quiet = TROUBLES, 0
        while quiet < NOTHING_MOVES or not self._all_committed():
            await asyncio.sleep(0)
            choice = self.rng.random()
            name = self.rng.choice(list(self._make))
            if self.processes[name].failed or (troubles and choice < 0.01):
                troubles = max(0, troubles - 1)
                await self._replace(name)
            elif choice < 0.05:
                await self.processes[name].commit()
            elif self._stall.release():
                quiet = 0
                for owner, images in self._since.items():
                    images.update(self._owned(owner))
            self._look_for_deleted_images()
            quiet = quiet + 1 if all(client.done() for client in clients) else 0
        for process in (*self.processes.values(), *self._zombies):
            await process.crash()
        for client in clients:
            client.result()

    def _clients(self) -> Iterable[Coroutine[Any, Any, None]]:
        """What the clients do, each beside the others."""
        return [self._requests(random.Random(self.rng.random())) for _ in range(3 if self._sets_only else 2)]

    def _look_for_deleted_images(self) -> None:
        for image_id, owner in self.gone.items():
            places = ((IMAGES, (image_id,)), (BY_OWNER, (owner.type, owner.id, image_id)))
            rows = (self.index.row(table, key) for table, key in places)
            if any(row is not None and is_image(row) for row in rows):
                self.seen_again.add(image_id)

    async def _replace(self, name: str) -> None:
        """The process is dead, or the group has removed it: the next one begins at the last committed position."""
        old = self.processes[name]
        if old.failed or self.rng.random() < 0.5:
            await old.crash()
        else:
            self._zombies.append(old)
        self.processes[name] = self._make[name]()

    def _all_committed(self) -> bool:
        ends = {(Topic.COMMANDS, number): len(records) for number, records in enumerate(self.log.commands)}
        handled = "processor" not in self._make or self.positions == ends
        return handled and self.indexed == {**ends, (Topic.EVENTS, 0): len(self.log.events)}

    async def _requests(self, rng: random.Random) -> None:
        mine: list[UUID] = []
        owner = OWNERS[0]
        for _ in range(REQUESTS):
            action = rng.choices(list(ACTIONS), SET_WEIGHTS if self._sets_only else WEIGHTS)[0]
            try:
                match "upload" if not mine else action:
                    case "upload":
                        owner = OWNERS[0] if self._sets_only else rng.choice(OWNERS)
                        mine.append(await self._upload(owner))
                    case "replace":
                        await self._replace_image(rng.choice(mine))
                    case "delete":
                        image_id = mine.pop(rng.randrange(len(mine)))
                        delete = self._delete_and_replace if self._also_replaces.random() < 0.5 else self._delete
                        await delete(image_id)
                    case "clear":
                        # The owner of the last upload, so that the fence meets commands that are being handled.
                        await self._clear(owner)
                        await self._read(owner)
                    case "set":
                        mine += await self._replace_set(owner, rng.choice((1, 2, 3) if self._sets_only else (1, 1, 2)))
                    case "old set":
                        await self._replace_as_an_old_gateway(rng.choice(mine))
                    case "read":
                        await self._read(owner)
            except (Unavailable, Problem):
                continue  # The outcome is unknown and the client continues; or the other client cleared the owner.

    async def _upload(self, owner: Owner) -> UUID:
        ids = Ids.mint()
        await self._services.uploads.upload(_file(), ids, owner)
        self.acknowledged[ids.image_id] = owner
        return ids.image_id

    async def _replace_image(self, image_id: UUID) -> None:
        cleared, there = dict(self._cleared), self._exists(image_id)
        try:
            row = await replaceable_image(self._services.index, image_id)
        except Problem:
            if there and self._exists(image_id) and not self._is_fenced(image_id):
                self.violations.append("an image that no fence takes cannot be replaced")
            raise
        await self._services.uploads.replace(_file(), new_id(), row)
        self._check_replaced(row, cleared)

    def _check_replaced(self, row: ImageRow, cleared: dict[Owner, int]) -> None:
        """`cleared` are the acknowledged bounds at the time at which the request was sent."""
        if row.image_version < cleared.get(row.owner, 0):
            self.violations.append("a replacement of a cleared image is acknowledged")

    def _exists(self, image_id: UUID) -> bool:
        row = self.index.row(IMAGES, (image_id,))
        return row is not None and is_image(row)

    def _is_fenced(self, image_id: UUID) -> bool:
        logged = self.logged()
        upload = _uploads(logged)[image_id]
        return any(isinstance(each, LoggedFence) and _takes(each, upload) for each in logged)

    async def _replace_set(self, owner: Owner, count: int) -> list[UUID]:
        ids = [Ids.mint() for _ in range(count)]
        services, cleared = self._services, dict(self._cleared)
        async with services.set_leases.hold(owner) as lease:
            results = await replace_set(services.index, services.uploads, lease, owner, [_file()] * count, ids)
        accepted = [result for result in results if isinstance(result, Accepted)]
        images = [result.row.image_id for result in accepted]
        self.acknowledged |= dict.fromkeys(images, owner)
        new = [each.image_id for each in ids]
        if images == new:
            versions = [result.command.version or 0 for result in accepted]
            self.sets.append((owner, versions))
            self._acknowledge(owner, min(versions))
        for result in accepted:
            if result.row.image_id not in new:
                self._check_replaced(result.row, cleared)
        return images

    async def _replace_as_an_old_gateway(self, image_id: UUID) -> None:
        """The set of one file by a gateway of an earlier version: its fence keeps the image that it has replaced."""
        row = await replaceable_image(self._services.index, image_id)
        replaced = await self._services.uploads.replace(_file(), new_id(), row)
        await self._services.journal.append(
            OwnerCleared(owner=row.owner, before=replaced.command.version, keep=(image_id,))
        )

    async def _clear(self, owner: Owner) -> None:
        start = len(self.log.commands[int(owner.id) % PARTITIONS])
        await clear_owner(self._services.index, self._services.journal, owner)
        # The clear's own fence is above everything that was in the log when it began.
        self._acknowledge(owner, command_version(EPOCH, start))

    def _acknowledge(self, owner: Owner, bound: int) -> None:
        self._cleared[owner] = max(bound, self._cleared.get(owner, 0))
        self._since[owner] = self._owned(owner)

    async def _read(self, owner: Owner) -> None:
        """Read the owner's list: it has no cleared image that the index has not had since the answer to the clear.

        The row of an upload can be written after that answer. Its image is in the lists until the indexer reaches the
        fence.
        """
        cleared, since = self._cleared.get(owner, 0), self._since.get(owner, set())
        page = await self._services.lists.page(ListQuery(owner))
        # A later clear may have been acknowledged in between. The page may still be older than that one.
        shown = {UUID(image["image_id"]) for image in json.loads(page.body)} - since - self._since.get(owner, set())
        uploads = _uploads(self.logged())
        if any(uploads[image_id].version < cleared for image_id in shown):
            self.violations.append("a cleared image is served from a cache")

    def _owned(self, owner: Owner) -> set[UUID]:
        rows = self.index.table(BY_OWNER).items()
        return {key[-1] for key, row in rows if key[:2] == (owner.type, owner.id) and is_image(row)}

    async def _delete(self, image_id: UUID) -> None:
        self.deleted.add(image_id)
        await delete_image(self._services.index, self._services.journal, image_id)
        self.gone[image_id] = self.acknowledged[image_id]

    async def _delete_and_replace(self, image_id: UUID) -> None:
        """A client deletes an image while another one replaces it."""
        requests = (self._replace_image(image_id), self._delete(image_id))
        for result in await asyncio.gather(*requests, return_exceptions=True):
            if isinstance(result, BaseException) and not isinstance(result, Unavailable | Problem):
                raise result

    def logged(self) -> list[LoggedCommand]:
        """Every command, each partition in its order. The versions are those of the offsets in the log."""
        return [
            versioned(decode_command(record.value), command_version(EPOCH, record.offset))
            for records in self.log.commands
            for record in records
        ]


def _file() -> CheckedFile:
    return CheckedFile("a.png", PICTURE, inspect(PICTURE, max_pixels=100, max_side=100), SHA256)


async def verdict(world: Pipeline) -> str | None:
    """The violation at the end of a history, or None."""
    logged = world.logged()
    events = [decode_event(record.value) for record in world.log.events]
    if world.dead_letters.records:
        return "a dead letter without cause"
    if world.seen_again:
        return "a deleted image is seen again"
    answered = {(event.image_id, event.version) for event in events}
    if not _asked(logged) <= answered:
        return "a command without an answer"
    if not _in_order(events):
        return "answers of one image out of order"
    if not await _rows_are_the_fold(world, events):
        return "rows that are not what the log says"
    gone = {each.command.image_id for each in logged if isinstance(each, LoggedDelete)}
    left = [key for image_id in gone for key in world.store.objects if key.startswith(image_prefix(image_id))]
    if not all(_never_logged(key, logged) for key in left):
        return "objects of a deleted image"
    shown = {key[0] for key in world.index.table(IMAGES)}
    if world.acknowledged.keys() - gone - shown:
        return "an acknowledged image is lost"
    return owners_verdict(world, logged)


def owners_verdict(world: Pipeline, logged: list[LoggedCommand]) -> str | None:
    """The violation of a rule for all images of an owner, or None."""
    gone = {each.command.image_id for each in logged if isinstance(each, LoggedDelete)}
    return (
        next(iter(world.violations), None)
        or _fences_verdict(logged, gone)
        or _deletions_verdict(logged, world.deleted)
        or _sets_verdict(logged, world.sets)
    )


def _asked(logged: list[LoggedCommand]) -> set[tuple[UUID, int]]:
    """Image and version of each command that has an answer: all but the fence."""
    return {(each.command.image_id, each.version) for each in logged if not isinstance(each, LoggedFence)}


def _in_order(events: list[Event]) -> bool:
    """Whether each image's commands were first answered in the order of the log; repetitions come at any time."""
    first: dict[UUID, list[int]] = defaultdict(list)
    for event in events:
        if event.version not in first[event.image_id]:
            first[event.image_id].append(event.version)
    return all(versions == sorted(versions) for versions in first.values())


async def _rows_are_the_fold(world: Pipeline, events: list[Event]) -> bool:
    expected = MemoryIndex()
    for logged in world.logged():
        await expected.apply(command_writes(logged, SHARDS))
    for event in events:
        await expected.apply(event_writes(event, SHARDS))
    return all(expected.table(table) == world.index.table(table) for table in (IMAGES, BY_OWNER))


def _never_logged(key: str, logged: list[LoggedCommand]) -> bool:
    """Whether this is the original of a request whose command was never appended, which `imagepipe gc` reports."""
    media = parse_media_path(key)
    requested = {each.command.revision for each in logged if isinstance(each, LoggedRenderCommand)}
    return media is not None and media.variant is None and media.revision not in requested


def _uploads(logged: list[LoggedCommand]) -> dict[UUID, LoggedRenderCommand]:
    return {each.command.image_id: each for each in logged if isinstance(each.command, Uploaded)}


def _fences_verdict(logged: list[LoggedCommand], gone: set[UUID]) -> str | None:
    """Whether each fence deleted every image that it covers."""
    fences = [each for each in logged if isinstance(each, LoggedFence)]
    taken = {
        image_id for image_id, upload in _uploads(logged).items() if any(_takes(fence, upload) for fence in fences)
    }
    return "an image below a fence is still there" if taken - gone else None


def _deletions_verdict(logged: list[LoggedCommand], asked: set[UUID]) -> str | None:
    """Whether each deleted image was deleted by a client, or by a fence before its deletion in the log."""
    uploads = _uploads(logged)
    fences = [each for each in logged if isinstance(each, LoggedFence)]
    for each in logged:
        if isinstance(each, LoggedDelete) and each.command.image_id not in asked:
            upload = uploads[each.command.image_id]
            if not any(fence.version < each.version and _takes(fence, upload) for fence in fences):
                return "an image is gone that no fence takes and no client deleted"
    return None


def _sets_verdict(logged: list[LoggedCommand], sets: list[tuple[Owner, list[int]]]) -> str | None:
    """Whether each acknowledged set is replaced by another one as a whole, or not at all.

    A gateway of an earlier version takes no lease. Its fences, which keep images, may tear a set.
    """
    bounds: dict[Owner, set[int]] = defaultdict(set)
    for each in logged:
        if isinstance(each, LoggedFence) and each.command.before is not None and not each.command.keep:
            bounds[each.command.owner].add(each.before)
    torn = any(min(versions) < bound <= max(versions) for owner, versions in sets for bound in bounds[owner])
    return "a set is torn by another one" if torn else None


def _takes(fence: LoggedFence, upload: LoggedRenderCommand) -> bool:
    clearing, command = fence.command, upload.command
    below = upload.version < (fence.version if clearing.before is None else clearing.before)
    return clearing.owner == command.owner and below and command.image_id not in clearing.keep
