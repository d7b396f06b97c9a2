"""The indexer over ports in memory: order, barriers, retries, dead letters and the fence."""

import asyncio
import time
from collections.abc import Callable, Sequence
from datetime import timedelta
from typing import Any
from uuid import UUID

import pytest
import structlog

from indexer import delivery
from indexer.delivery import Delivery
from indexer.fence import PAGE, Fence
from indexer.handler import Barrier, ConsumedRecord, Handler
from indexer.partition import Partition
from shared.consuming.dead_letters import DeadLetterLimit, TooManyDeadLetters
from shared.contract.encoding import encode
from shared.contract.events import Command, Deleted, Event
from shared.contract.headers import VERSION_HEADER, Headers
from shared.contract.keys import command_version, new_id
from shared.errors import PoisonRecord, Unavailable, UnknownOutcome
from shared.observability import tracing
from shared.observability.logs import with_trace
from shared.ports import Appended
from shared.read_model.tables import Write
from shared.settings import Topic
from tests.support import records
from tests.support.memory.ports import MemoryCommandLog, MemoryDeadLetters, MemoryIndex
from tests.support.records import OWNER

SHARDS = 4


def consumed(record: Command | Event | bytes | None, offset: int, topic: Topic = Topic.COMMANDS) -> ConsumedRecord:
    value = record if isinstance(record, bytes | None) else encode(record)
    return ConsumedRecord(topic, 0, offset, b"key", value, [("traceparent", b"00-1-2-01")])


async def nothing_lower() -> None:
    """Every lower offset is settled."""


def fence_of(index: MemoryIndex, commands: MemoryCommandLog, progress: Callable[[], None] = lambda: None) -> Fence:
    return Fence(index, commands, epoch=1, shards=SHARDS, on_progress=progress)


def handler_of(index: MemoryIndex, fence: Fence | None = None) -> Handler:
    return Handler(index, epoch=1, shards=SHARDS, concurrency=4, fence=fence)


class TestPartition:
    """Each test stands for one assignment; `doors` hold records until they are opened."""

    def setup_method(self) -> None:
        self.doors: dict[int, asyncio.Event] = {}
        self.failures: list[BaseException] = []
        self.begun: list[int] = []

    async def deliver(self, record: ConsumedRecord, lower_settled: Barrier) -> None:
        if record.key == b"fence":
            await lower_settled()
        self.begun.append(record.offset)
        await self.doors.setdefault(record.offset, asyncio.Event()).wait()
        if record.key == b"broken":
            raise Unavailable("cassandra", "away")

    def partition(self, window: int = 100) -> Partition:
        return Partition(self.deliver, self.failures.append, window)

    async def open(self, *offsets: int) -> None:
        for offset in offsets:
            self.doors.setdefault(offset, asyncio.Event()).set()
        for _ in range(5):
            await asyncio.sleep(0)

    async def test_position_is_contiguous(self) -> None:
        partition = self.partition()
        for offset in (4, 5, 7):
            await partition.admit(consumed(None, offset))
        await self.open(5, 7)
        assert (partition.position, partition.pending) == (None, 3)
        await self.open(4)
        assert (partition.position, partition.pending) == (8, 0)

    async def test_age_is_that_of_the_oldest_record_that_is_not_done_with(self) -> None:
        partition, now = self.partition(), time.time()
        for offset, age in ((1, 90), (2, 30)):
            await partition.admit(ConsumedRecord(Topic.COMMANDS, 0, offset, b"k", None, [], now - age))
        assert (partition.running, round(partition.oldest_seconds(), -1)) == (2, 90)
        await self.open(1)
        assert (partition.running, round(partition.oldest_seconds(), -1)) == (1, 30)
        await self.open(2)
        assert (partition.running, partition.oldest_seconds()) == (0, 0)

    async def test_fence_waits_for_lower_offsets_and_holds_up_nobody(self) -> None:
        partition = self.partition()
        await partition.admit(consumed(None, 1))
        await partition.admit(ConsumedRecord(Topic.COMMANDS, 0, 2, b"fence", None, []))
        await partition.admit(consumed(None, 3))
        await self.open(3)
        assert self.begun == [1, 3]
        await self.open(1)
        assert self.begun == [1, 3, 2]
        assert partition.position == 2
        await self.open(2)
        assert partition.position == 4

    async def test_window_bounds_what_is_started(self) -> None:
        partition = self.partition(window=2)
        await partition.admit(consumed(None, 1))
        await partition.admit(consumed(None, 2))
        third = asyncio.create_task(partition.admit(consumed(None, 3)))
        await self.open(2)
        assert not third.done(), "the lowest is open: settled ones above it count"
        await self.open(1)
        await third
        # Cancelled while it waits for room, a record was not started.
        await partition.admit(consumed(None, 4))
        fifth = asyncio.create_task(partition.admit(consumed(None, 5)))
        await asyncio.sleep(0)
        fifth.cancel()
        await asyncio.gather(fifth, return_exceptions=True)
        await self.open(3, 4)
        assert partition.position == 5

    async def test_failure_is_reported_and_never_passed(self) -> None:
        partition = self.partition()
        await partition.admit(ConsumedRecord(Topic.COMMANDS, 0, 1, b"broken", None, []))
        await partition.admit(consumed(None, 2))
        await self.open(1, 2)
        assert [type(error) for error in self.failures] == [Unavailable]
        assert partition.position is None

    async def test_drain_waits_to_its_deadline_and_close_cancels_the_rest(self) -> None:
        partition = self.partition()
        for offset in (1, 2):
            await partition.admit(consumed(None, offset))
        await self.open(1)
        await partition.drain(0.02)
        assert partition.position == 2
        await partition.close()
        assert (partition.position, self.failures) == (2, [])


class Scripted(Handler):
    """Raises what it is told to, once each, and then succeeds."""

    def __init__(self, *errors: Exception) -> None:
        super().__init__(MemoryIndex(), epoch=1, shards=SHARDS, concurrency=1, fence=None)
        self.errors = list(errors)
        self.calls = 0

    async def handle(self, record: ConsumedRecord, lower_settled: Barrier) -> None:
        self.calls += 1
        if self.errors:
            raise self.errors.pop(0)


class TestDelivery:
    @pytest.fixture(autouse=True)
    def _no_pauses(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(delivery, "SURPRISE_PAUSE_SECONDS", 0.001)

    def setup_method(self) -> None:
        self.dead = MemoryDeadLetters()

    async def deliver(self, handler: Handler, record: ConsumedRecord, patience: float = 5, limit: int = 10) -> None:
        names = {topic: f"prefix.{topic}" for topic in Topic}
        found = Delivery(
            handler,
            self.dead,
            DeadLetterLimit(limit),
            topic_names=names,
            epoch=1,
            patience=timedelta(seconds=patience),
            attempts=3,
        )
        await found.deliver(record, nothing_lower)

    async def test_each_line_of_the_log_names_the_image_and_its_trace(self) -> None:
        trace_id, answer = "0af7651916cd43dd8448eb211c80319c", records.ready(new_id(), new_id(), 8)
        header = f"00-{trace_id}-b7ad6b7169203331-01".encode()
        record = ConsumedRecord(Topic.EVENTS, 2, 5, b"k", encode(answer), [("traceparent", header)])
        structlog.reset_defaults()
        processors = [structlog.contextvars.merge_contextvars, with_trace]
        with structlog.testing.capture_logs(processors=processors) as lines:
            await self.deliver(Scripted(Unavailable("cassandra", "away")), record)

        assert [line["event"] for line in lines] == ["engine_away", "record_done"]
        for line in lines:
            assert (line["image_id"], line["owner"]) == (str(answer.image_id), answer.owner.key)
            assert (line["type"], line["version"], line["trace_id"]) == ("image.ready", "8", trace_id)
            assert (line["topic"], line["partition"], line["offset"]) == ("images.events", 2, 5)

    async def test_outage_is_waited_for(self) -> None:
        handler = Scripted(*[Unavailable("cassandra", "away")] * 4, UnknownOutcome("kafka", "?"))
        await self.deliver(handler, consumed(None, 1))
        assert (handler.calls, self.dead.records) == (6, [])

    @pytest.mark.parametrize("topic", [Topic.COMMANDS, Topic.EVENTS])
    async def test_outage_beyond_patience_stops_and_is_never_dead_lettered(self, topic: Topic) -> None:
        with pytest.raises(Unavailable, match="away"):
            await self.deliver(Scripted(*[Unavailable("cassandra", "away")] * 500), consumed(None, 1, topic), 0.05)
        assert self.dead.records == []

    async def test_poison_command_is_skipped_for_the_processor_to_bury(self) -> None:
        handler = Scripted(PoisonRecord("what"))
        await self.deliver(handler, consumed(b"{", 1))
        assert (handler.calls, self.dead.records) == (1, [])

    @pytest.mark.parametrize("topic", [Topic.COMMANDS, Topic.EVENTS])
    @pytest.mark.parametrize("name", [VERSION_HEADER, tracing.TRACEPARENT])
    async def test_header_without_a_value_counts_as_absent(self, topic: Topic, name: str) -> None:
        record = records.uploaded() if topic is Topic.COMMANDS else records.ready(new_id(), new_id(), 8)
        await self.deliver(handler_of(MemoryIndex()), ConsumedRecord(topic, 0, 1, b"k", encode(record), [(name, None)]))
        assert self.dead.records == []

    async def test_command_whose_version_is_none_is_skipped_for_the_processor_to_bury(self) -> None:
        index, command = MemoryIndex(), records.uploaded()
        headers = [(VERSION_HEADER, b"9" * 5000)]
        await self.deliver(handler_of(index), ConsumedRecord(Topic.COMMANDS, 0, 1, b"k", encode(command), headers))
        assert (await index.image(command.image_id), self.dead.records) == (None, [])

    async def test_poison_event_is_buried_at_once_and_untouched(self) -> None:
        await self.deliver(Scripted(PoisonRecord("what")), consumed(b"{", 9, Topic.EVENTS))
        [(key, value, headers)] = self.dead.records
        assert (key, value) == (b"key", b"{")
        found = {name: text.decode() for name, text in headers}
        assert found["traceparent"] == "00-1-2-01"
        assert found["dlq-source-topic"] == "prefix.images.events"
        assert (found["dlq-source-offset"], found["dlq-attempts"]) == ("9", "1")
        assert "dlq-version" not in found

    async def test_redriven_command_keeps_its_first_version_in_the_dlq(self) -> None:
        value, first = encode(records.uploaded()), command_version(1, 3)
        headers = [(VERSION_HEADER, str(first).encode())]
        await self.deliver(Scripted(*[KeyError("a")] * 9), ConsumedRecord(Topic.COMMANDS, 0, 7, b"k", value, headers))
        [(_, _, told)] = self.dead.records
        assert dict(told)["dlq-version"] == str(first).encode()

    async def test_surprise_is_tried_again_and_then_buried(self) -> None:
        handler = Scripted(KeyError("a"), KeyError("b"))
        await self.deliver(handler, consumed(None, 1))
        assert (handler.calls, self.dead.records) == (3, [])
        handler = Scripted(*[KeyError("odd")] * 3)
        await self.deliver(handler, consumed(b"v", 7))
        headers = {name: text.decode() for name, text in self.dead.records[0][2]}
        assert (headers["dlq-attempts"], headers["dlq-version"]) == ("3", str(command_version(1, 7)))

    async def test_flood_stops(self) -> None:
        with pytest.raises(TooManyDeadLetters):
            await self.deliver(Scripted(PoisonRecord("what")), consumed(b"{", 9, Topic.EVENTS), limit=0)

    async def test_dlq_that_is_away_stops(self) -> None:
        class Away(MemoryDeadLetters):
            async def send(self, key: bytes | None, value: bytes | None, headers: Headers) -> None:
                raise Unavailable("kafka", "the DLQ is away")

        self.dead = Away()
        with pytest.raises(Unavailable, match="DLQ"):
            await self.deliver(Scripted(PoisonRecord("what")), consumed(b"{", 9, Topic.EVENTS), patience=0.02)


class TestHandler:
    async def test_command_and_answer_become_rows(self) -> None:
        index, image, revision = MemoryIndex(), new_id(), new_id()
        handler = handler_of(index)
        await handler.handle(consumed(records.uploaded(image, revision), 5), nothing_lower)
        row = await index.image(image)
        assert row is not None
        assert (row.image_version, row.current) == (command_version(1, 5), None)
        answer = records.ready(image, revision, command_version(1, 5))
        await handler.handle(consumed(answer, 0, Topic.EVENTS), nothing_lower)
        row = await index.image(image)
        assert row is not None
        assert row.current == answer.current

    async def test_compaction_tombstone_says_nothing(self) -> None:
        index = MemoryIndex()
        await handler_of(index).handle(consumed(None, 0, Topic.EVENTS), nothing_lower)
        assert list(await index.days()) == []

    @pytest.mark.parametrize("topic", [Topic.COMMANDS, Topic.EVENTS])
    async def test_poison(self, topic: Topic) -> None:
        with pytest.raises(PoisonRecord):
            await handler_of(MemoryIndex()).handle(consumed(b"{}", 0, topic), nothing_lower)

    async def test_without_a_fence_owner_cleared_has_no_effect(self) -> None:
        """As a replay or a rebuild applies it: what it deleted stands in the log as deletes."""
        index, image = MemoryIndex(), new_id()
        handler = handler_of(index)
        await handler.handle(consumed(records.uploaded(image), 1), nothing_lower)
        await handler.handle(consumed(records.cleared(), 2), nothing_lower)
        assert await index.image(image) is not None

    async def test_fence_waits_while_others_write(self) -> None:
        index, commands = MemoryIndex(), MemoryCommandLog()
        handler = Handler(index, epoch=1, shards=SHARDS, concurrency=1, fence=fence_of(index, commands))
        settled, image = asyncio.Event(), new_id()

        async def lower_settled() -> None:
            await settled.wait()

        fence = asyncio.create_task(handler.handle(consumed(records.cleared(), 2), lower_settled))
        await asyncio.sleep(0)
        # The one slot is free for the lower offset that the fence waits for.
        await handler.handle(consumed(records.uploaded(image), 1), nothing_lower)
        assert commands.commands == []
        settled.set()
        await fence
        assert [command.image_id for command in deletes(commands)] == [image]


def deletes(log: MemoryCommandLog) -> list[Deleted]:
    return [command for command in log.commands if isinstance(command, Deleted)]


class LateLog(MemoryCommandLog):
    """Offsets far above the images' own, as in a real log; some appends fail."""

    def __init__(self, fails: Sequence[int] = (), offsets: bool = True) -> None:
        super().__init__()
        self.fails = set(fails)
        self.offsets = offsets
        self.calls = 0

    async def append(self, command: Command, *, traceparent: str | None = None) -> Appended:
        self.calls += 1
        if self.calls in self.fails:
            raise UnknownOutcome("kafka", "no ack")
        appended = await super().append(command)
        assert appended.offset is not None
        return Appended(0, appended.offset + 100_000 if self.offsets else None)


class TestFence:
    async def index_with(self, versions: Sequence[int]) -> tuple[MemoryIndex, list[UUID]]:
        index, ids = MemoryIndex(), [new_id() for _ in versions]
        for image, version in zip(ids, versions, strict=True):
            await handler_of(index).handle(consumed(records.uploaded(image), version), nothing_lower)
        return index, ids

    async def left(self, index: MemoryIndex) -> set[UUID]:
        return {row.image_id for row in await index.of_owner(OWNER, limit=10_000)}

    async def test_only_what_is_below_and_not_kept_goes(self) -> None:
        index, ids = await self.index_with([1, 2, 3, 4])
        log = LateLog()
        fence = records.cleared(command_version(1, 4), (ids[1],))
        assert await fence_of(index, log).clear(fence, command_version(1, 9)) == 2
        assert {command.image_id for command in deletes(log)} == {ids[0], ids[2]}
        assert await self.left(index) == {ids[1], ids[3]}

    async def test_before_itself_by_default(self) -> None:
        index, ids = await self.index_with([1, 8, 10])
        assert await fence_of(index, LateLog()).clear(records.cleared(), command_version(1, 9)) == 2
        assert await self.left(index) == {ids[2]}

    async def test_thousands_are_paged(self) -> None:
        index, _ = await self.index_with(range(2 * PAGE + 30))
        log, pages = LateLog(), list[int]()
        fence = fence_of(index, log, lambda: pages.append(len(log.commands)))
        assert await fence.clear(records.cleared(), command_version(1, 50_000)) == 2 * PAGE + 30
        assert pages == [PAGE, 2 * PAGE, 2 * PAGE + 30]
        assert await self.left(index) == set()

    async def test_row_stays_until_its_delete_is_acked_and_a_repetition_finishes(self) -> None:
        index, ids = await self.index_with(range(10))
        log = LateLog(fails=[4])
        with pytest.raises(UnknownOutcome):
            await fence_of(index, log).clear(records.cleared(), command_version(1, 50))
        acked = {command.image_id for command in deletes(log)}
        assert await self.left(index) == set(ids) - acked
        await fence_of(index, log).clear(records.cleared(), command_version(1, 50))
        assert await self.left(index) == set()
        assert {command.image_id for command in deletes(log)} == set(ids)

    async def test_ack_without_an_offset_leaves_the_row_to_the_record(self) -> None:
        index, ids = await self.index_with([1])
        log = LateLog(offsets=False)
        assert await fence_of(index, log).clear(records.cleared(), command_version(1, 9)) == 1
        assert await self.left(index) == set(ids)
        await handler_of(index).handle(consumed(log.commands[0], 10), nothing_lower)
        assert await self.left(index) == set()

    async def test_index_that_fails_is_told(self) -> None:
        index, _ = await self.index_with([1])

        async def away(writes: Sequence[Write]) -> Any:
            raise Unavailable("cassandra", "away")

        index.apply = away  # type: ignore[method-assign]
        with pytest.raises(Unavailable, match="cassandra"):
            await fence_of(index, LateLog()).clear(records.cleared(), command_version(1, 9))
