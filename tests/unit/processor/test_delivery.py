"""How the processor delivers a record: outages, unexpected errors, dead letters, commits and revokes."""

import asyncio
import time
from collections.abc import Mapping

import pytest

from processor.consuming.agent import Agent
from processor.consuming.delivery import Delivery, Task, parse
from processor.consuming.lanes import Bounds
from processor.handler import Handler
from processor.rendering.render import Rendering
from shared.consuming.record import ConsumedRecord
from shared.contract.encoding import encode
from shared.contract.events import Event, OwnerCleared
from shared.contract.headers import VERSION_HEADER, ReceivedHeaders
from shared.contract.keys import Owner, command_version
from shared.contract.ladder import Ladder
from shared.contract.logged_command import LoggedCommand, versioned
from shared.errors import PoisonRecord, RecordTooLarge, Unavailable
from shared.observability import tracing
from shared.observability.metrics import Service
from shared.settings import Topic
from tests.support import records
from tests.support.delivery import policy_of
from tests.support.memory.ports import MemoryDeadLetters, MemoryEventLog, MemoryStore
from tests.support.metric_samples import sample

TRACE = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"


class Scripted(Handler):
    """Raises these errors, one at each call, and then answers."""

    def __init__(self, *errors: BaseException) -> None:
        super().__init__(MemoryStore(), _no_render, MemoryEventLog(), records.BASE)
        self.errors = list(errors)
        self.calls: list[tuple[LoggedCommand, str | None]] = []
        self.gate: asyncio.Event | None = None

    async def handle(self, logged: LoggedCommand) -> Event | None:
        self.calls.append((logged, tracing.traceparent()))
        if self.errors:
            raise self.errors.pop(0)
        if self.gate is not None:
            await self.gate.wait()
        return None


async def _no_render(owner: Owner, data: bytes, ladder: Ladder) -> Rendering:
    raise AssertionError("nothing is rendered here")


def delivery(handler: Handler, dead_letters: MemoryDeadLetters, outage_seconds: float = 0.3) -> Delivery:
    return Delivery(handler, policy_of(dead_letters, outage_seconds=outage_seconds, attempts=2))


def received(value: bytes | None = None, offset: int = 5, headers: ReceivedHeaders | None = None) -> ConsumedRecord:
    return ConsumedRecord(
        Topic.COMMANDS, 3, offset, b"user:1", encode(records.uploaded()) if value is None else value, headers or []
    )


async def test_a_command_that_fails_unexpectedly_is_dead_lettered_with_its_version() -> None:
    dead_letters = MemoryDeadLetters()
    record = received(headers=[("traceparent", TRACE.encode()), ("ce_id", b"1")])
    handler = Scripted(RuntimeError("one"), RuntimeError("two"))
    await delivery(handler, dead_letters).deliver(parse(record, 1))
    (key, value, headers) = dead_letters.records[0]
    assert (key, value) == (record.key, record.value)
    assert headers[:2] == record.headers
    added = dict(headers[2:])
    assert added["dlq-source-topic"] == b"images.commands"
    assert (added["dlq-source-partition"], added["dlq-source-offset"]) == (b"3", b"5")
    assert added["dlq-version"] == str(command_version(1, 5)).encode()
    assert added["dlq-error"] == b"RuntimeError: two"
    assert b"Traceback" in added["dlq-stack"]
    assert added["dlq-attempts"] == b"2"


async def test_command_with_an_answer_too_large_for_its_topic_is_dead_lettered_at_once() -> None:
    """A retry would make the same answer, which is a pure function of manifest and version."""
    dead_letters, handler = MemoryDeadLetters(), Scripted(RecordTooLarge("record for images.events is too large"))
    await delivery(handler, dead_letters).deliver(parse(received(), 1))
    assert len(handler.calls) == 1
    assert b"too large" in dict(dead_letters.records[0][2])["dlq-error"]


@pytest.mark.parametrize("value", [b"not json", b"{}", b'{"type":"image.exploded"}'])
async def test_invalid_record_is_dead_lettered_at_once(value: bytes) -> None:
    dead_letters, handler = MemoryDeadLetters(), Scripted()
    await delivery(handler, dead_letters).deliver(parse(received(value), 1))
    assert handler.calls == []
    assert dead_letters.records[0][1] == value


IMPOSSIBLE_PATHS = ["", "../x", "x" * 2000, "images/a/b/original.jpg", "incoming/x", "\n"]


@pytest.mark.parametrize("path", IMPOSSIBLE_PATHS)
async def test_original_under_an_invalid_key_is_dead_lettered_at_once(path: str) -> None:
    upload = records.uploaded()
    value = encode(upload.model_copy(update={"original": upload.original.model_copy(update={"path": path})}))
    dead_letters, handler = MemoryDeadLetters(), Scripted()
    await delivery(handler, dead_letters).deliver(parse(received(value), 1))
    assert handler.calls == []
    assert dead_letters.records[0][1] == value


async def test_request_that_the_bucket_refuses_is_not_an_outage() -> None:
    """The contract refuses such a path. A handler that met one nevertheless would stop its partition permanently."""
    upload = records.uploaded()
    command = upload.model_copy(update={"original": upload.original.model_copy(update={"path": "images/../x"})})
    dead_letters, record = MemoryDeadLetters(), received()
    handler = Handler(MemoryStore(), _no_render, MemoryEventLog(), records.BASE)
    await delivery(handler, dead_letters).deliver(Task(record, versioned(command, 8), 8))
    assert b"RequestRefused" in dict(dead_letters.records[0][2])["dlq-error"]


async def test_invalid_version_header_is_dead_lettered_at_once() -> None:
    dead_letters, handler = MemoryDeadLetters(), Scripted()
    await delivery(handler, dead_letters).deliver(parse(received(headers=[(VERSION_HEADER, b"9" * 5000)]), 1))
    assert handler.calls == []
    assert b"not a version" in dict(dead_letters.records[0][2])["dlq-error"]


async def test_headers_without_a_value_count_as_absent() -> None:
    dead_letters, handler = MemoryDeadLetters(), Scripted()
    headers = [(VERSION_HEADER, None), (tracing.TRACEPARENT, None)]
    await delivery(handler, dead_letters).deliver(parse(received(headers=headers), 1))
    assert [logged.version for logged, _ in handler.calls] == [command_version(1, 5)]
    await delivery(handler, dead_letters).deliver(parse(received(b"not json", headers=headers), 1))
    assert len(dead_letters.records) == 1


def test_record_without_a_value_is_invalid() -> None:
    task = parse(ConsumedRecord(Topic.COMMANDS, 0, 1, b"k", None, []), 1)
    assert isinstance(task.content, PoisonRecord)
    assert (task.kind, task.version) == ("poison", command_version(1, 1))


async def test_version_and_trace_reach_the_handler() -> None:
    handler = Scripted()
    first = received(headers=[("traceparent", TRACE.encode())])
    redriven = received(offset=9, headers=[(VERSION_HEADER, b"42")])
    under_test = delivery(handler, MemoryDeadLetters())
    await under_test.deliver(parse(first, 2))
    await under_test.deliver(parse(redriven, 2))
    assert [logged.version for logged, _ in handler.calls] == [command_version(2, 5), 42]
    assert handler.calls[0][1] == TRACE
    # A record without a trace begins one, so that its log lines can be found together.
    assert handler.calls[1][1] not in (None, TRACE)


class Bench:
    """An agent whose commits are kept in a dictionary."""

    def __init__(self, handler: Scripted) -> None:
        self.committed: dict[int, int] = {}
        self.failures: list[BaseException] = []
        self.agent = Agent(
            delivery(handler, MemoryDeadLetters(), 0),
            Bounds(images=4, bytes=10**9, pixels=10**9, waiting=4),
            epoch=1,
            commit=self._commit,
            on_failure=self.failures.append,
        )

    async def _commit(self, positions: Mapping[int, int]) -> bool:
        self.committed.update(positions)
        return True

    async def accept(self, *offsets: int) -> None:
        for offset in offsets:
            await self.agent.accept(received(encode(OwnerCleared(owner=records.OWNER)), offset))
        for _ in range(10):
            await asyncio.sleep(0)


async def test_settled_records_are_committed_once() -> None:
    bench = Bench(Scripted())
    await bench.accept(5, 6, 7)
    assert bench.agent.pending == 1
    assert await bench.agent.commit()
    assert bench.committed == {3: 8}
    assert bench.agent.pending == 0
    assert not await bench.agent.commit(), "nothing was settled since"


async def test_revoke_waits_for_running_records_commits_them_and_starts_afresh() -> None:
    handler = Scripted()
    bench = Bench(handler)
    handler.gate = asyncio.Event()
    await bench.accept(5)
    revoking = asyncio.create_task(bench.agent.revoke(5))
    await asyncio.sleep(0)
    await bench.accept(6)
    assert len(handler.calls) == 1, "a record that is read during a revoke is dropped, because it is delivered again"
    handler.gate.set()
    await revoking
    assert bench.committed == {3: 6}
    await bench.accept(6)
    await bench.agent.commit()
    assert bench.committed == {3: 7}


async def test_revoke_waits_to_its_deadline_and_commits_nothing_unsettled() -> None:
    handler = Scripted()
    bench = Bench(handler)
    handler.gate = asyncio.Event()
    await bench.accept(5)
    await bench.agent.revoke(0.01)
    assert bench.committed == {}
    handler.gate = None
    await bench.accept(5)
    await bench.agent.commit()
    assert bench.committed == {3: 6}


async def test_outage_stops_the_agent_with_the_record_uncommitted() -> None:
    handler = Scripted(Unavailable("s3", "away"), Unavailable("s3", "away"))
    bench = Bench(handler)
    await bench.accept(5, 6)
    async with asyncio.timeout(5):
        while not bench.failures:  # noqa: ASYNC110 - a callback, not an event
            await asyncio.sleep(0.01)
    await bench.agent.close(0)
    assert bench.committed == {}


async def test_jump_in_the_offsets_stops_the_agent() -> None:
    bench = Bench(Scripted())
    await bench.accept(5, 7)
    assert len(bench.failures) == 1
    await bench.accept(8)
    await bench.agent.close(1)
    assert bench.committed == {3: 6}


async def test_number_and_age_of_running_records_are_measured() -> None:
    names = [
        "imagepipe_processor_running",
        "imagepipe_processor_held_bytes",
        "imagepipe_processor_held_pixels",
        "imagepipe_consumer_oldest_seconds",
    ]
    handler = Scripted()
    handler.gate = asyncio.Event()
    bench, upload = Bench(handler), records.uploaded()
    await bench.agent.accept(ConsumedRecord(Topic.COMMANDS, 3, 5, b"user:1", encode(upload), [], time.time() - 60))
    await bench.agent.commit()
    original = upload.original
    running, held_bytes, held_pixels, oldest = (sample(Service.PROCESSOR, name) for name in names)
    assert (running, held_bytes, held_pixels) == (1, original.size, original.width * original.height)
    assert 60 <= oldest < 70

    handler.gate.set()
    await bench.agent.close(5)
    assert [sample(Service.PROCESSOR, name) for name in names] == [0, 0, 0, 0]
