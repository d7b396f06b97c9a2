"""The whole pipeline at random: clients over the gateway's write path, the real agent and the real indexer, in memory.

Every effect waits until the scheduler draws it. Processes crash, or are replaced while they still run. A replaced
process continues as a zombie whose commits are refused. What must hold at the end is `verdict`.
"""

import asyncio
import hashlib
import random
from collections import defaultdict
from collections.abc import Callable, Mapping
from datetime import timedelta
from functools import partial
from typing import Protocol
from uuid import UUID

from gateway.container import Services
from gateway.http.problems import Problem
from gateway.receiving.checking import CheckedFile
from gateway.services.claims import Claims
from gateway.writing.removal import clear_owner, delete_image, existing_image
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
from shared.contract.events import Event, Uploaded
from shared.contract.image_header import inspect
from shared.contract.keys import Ids, Owner, command_version, image_prefix, new_id, parse_media_path
from shared.contract.ladder import Ladder
from shared.contract.logged_command import LoggedCommand, LoggedDelete, LoggedFence, LoggedRenderCommand, versioned
from shared.errors import Unavailable
from shared.read_model.tables import BY_OWNER, IMAGES, command_writes, event_writes
from shared.settings import Topic
from tests.model.engines import PARTITIONS, GatewayIndex, StalledIndex, StalledLog, StalledStore, Stalls
from tests.support import images
from tests.support.delivery import policy_of
from tests.support.memory.gateway import MemoryClaimTable, memory_settings
from tests.support.memory.ports import MemoryDeadLetters, MemoryIndex

Place = tuple[Topic, int]
EPOCH = 1
SHARDS = 4
REQUESTS = 12
"""Of one client, one after the other."""
OWNERS = (Owner(type="user", id="1"), Owner(type="user", id="2"), Owner(type="user", id="3"))
TROUBLES = 5
"""Crashes and take-overs of one history."""
PICTURE = images.encode(images.solid((9, 9, 9), size=(4, 3)), "PNG")
SHA256 = hashlib.sha256(PICTURE).hexdigest()
RENDERED = images.encode(images.solid((9, 9, 9), size=(4, 3)), "WEBP")
LADDER = Ladder(rungs=())
NOTHING_MOVES = 40
"""Rounds of the loop after which, with no effect waited for, everything has ended."""


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
        while True:
            if len(records) <= position:
                await self._world.log.more()
                continue
            await self._partitions[place].admit(records[position])
            position += 1

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
        self.store = StalledStore(self._stall)
        self.index = StalledIndex(self._stall)
        self.log = StalledLog(self._stall, self.rng)
        self.dead_letters = MemoryDeadLetters()
        self.positions: dict[Place, int] = {(Topic.COMMANDS, number): 0 for number in range(PARTITIONS)}
        self.indexed: dict[Place, int] = {**self.positions, (Topic.EVENTS, 0): 0}
        self.acknowledged: list[UUID] = []
        self.deleted: set[UUID] = set()
        """Ids of images for which a client sent a delete."""
        self._make: dict[str, Callable[[], Process]] = {
            "processor": partial(ProcessorProcess, self),
            "indexer": partial(IndexerProcess, self),
        }
        self.processes: dict[str, Process] = {}
        self._zombies: list[Process] = []
        claims = Claims(MemoryClaimTable(), timedelta(seconds=60))
        self._services = Services(
            memory_settings(ladder=LADDER),
            self.store,
            GatewayIndex(self._stall, self.rng, self.index),
            self.log,
            claims,
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
        clients = [asyncio.create_task(self._requests(random.Random(self.rng.random()))) for _ in range(2)]
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
            quiet = quiet + 1 if all(client.done() for client in clients) else 0
        for process in (*self.processes.values(), *self._zombies):
            await process.crash()
        for client in clients:
            client.result()

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
        return self.positions == ends and self.indexed == {**ends, (Topic.EVENTS, 0): len(self.log.events)}

    async def _requests(self, rng: random.Random) -> None:
        mine: list[UUID] = []
        owner = OWNERS[0]
        for _ in range(REQUESTS):
            choice = rng.random()
            try:
                if choice < 0.45 or not mine:
                    owner = rng.choice(OWNERS)
                    mine.append(await self._upload(owner))
                elif choice < 0.6:
                    await self._replace_image(rng.choice(mine))
                elif choice < 0.75:
                    await self._delete(mine.pop(rng.randrange(len(mine))))
                elif choice < 0.87:
                    # The owner of the last upload, so that the fence meets commands that are being handled.
                    await clear_owner(self._services.index, self._services.journal, owner)
                else:
                    mine += await self._replace_set(owner, rng.choice((1, 1, 2)))
            except (Unavailable, Problem):
                continue  # The outcome is unknown and the client continues; or the other client cleared the owner.

    async def _upload(self, owner: Owner) -> UUID:
        ids = Ids.mint()
        await self._services.uploads.upload(_file(), ids, owner)
        self.acknowledged.append(ids.image_id)
        return ids.image_id

    async def _replace_image(self, image_id: UUID) -> None:
        row = await existing_image(self._services.index, image_id)
        await self._services.uploads.replace(_file(), new_id(), row)

    async def _replace_set(self, owner: Owner, count: int) -> list[UUID]:
        ids = [Ids.mint() for _ in range(count)]
        results = await replace_set(self._services.index, self._services.uploads, owner, [_file()] * count, ids)
        accepted = [result.row.image_id for result in results if isinstance(result, Accepted)]
        self.acknowledged += accepted
        return accepted

    async def _delete(self, image_id: UUID) -> None:
        self.deleted.add(image_id)
        await delete_image(self._services.index, self._services.journal, image_id)

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
    told = {(event.image_id, event.version) for event in events}
    if not _asked(logged) <= told:
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
    if set(world.acknowledged) - gone - shown:
        return "an acknowledged image is lost"
    return _fences_verdict(logged, gone) or _deletions_verdict(logged, world.deleted)


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
                return "an image is gone that no fence takes and nobody deleted"
    return None


def _takes(fence: LoggedFence, upload: LoggedRenderCommand) -> bool:
    clearing, command = fence.command, upload.command
    below = upload.version < (fence.version if clearing.before is None else clearing.before)
    return clearing.owner == command.owner and below and command.image_id not in clearing.keep
