"""How Faust can lose records. Each test asserts the library's behaviour, so that it fails if an upgrade changes it.

Some of it can be seen in private attributes only.

The processor reads through `processor.consuming.faust_app` (raw bytes, one actor, Faust's acks off) and commits
positions itself. The last tests show that it loses nothing under the same circumstances.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import asynccontextmanager, suppress
from datetime import timedelta
from typing import Any

import faust
import pytest
from aiokafka import AIOKafkaProducer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import KafkaError
from faust.types import StreamT
from mode.supervisors import CrashingSupervisor, SupervisorStrategy

from processor.consuming.agent import Agent
from processor.consuming.delivery import Delivery
from processor.consuming.faust_app import BUFFERED_RECORDS, GROUP, CommandStream, make_app
from processor.consuming.lanes import Bounds
from processor.handler import Handler
from shared.contract.encoding import encode
from shared.contract.events import Event, OwnerCleared
from shared.contract.headers import VERSION_HEADER, ReceivedHeaders
from shared.contract.keys import Owner
from shared.contract.logged_command import LoggedCommand
from shared.errors import ConfigurationError
from shared.kafka.producer import METADATA_MAX_AGE_MS, client_options
from shared.kafka.topics import require_topics
from shared.observability.tracing import TRACEPARENT
from shared.settings import Settings, Topic
from tests.support import records
from tests.support.delivery import policy_of
from tests.support.isolation import isolated
from tests.support.log import committed
from tests.support.memory.ports import MemoryDeadLetters, MemoryEventLog, MemoryStore
from tests.support.records import POISON
from tests.support.waiting import wait_for_async

RECORDS = 20
COMMIT_SECONDS = 0.3
SECONDS = 20
"""Limit of each wait."""

Consume = Callable[[StreamT[Any]], Awaitable[None]]


@pytest.fixture
def settings(engines: Settings) -> Iterator[Settings]:
    with isolated(engines, topics=True, topic_partitions=1) as found:
        yield found


async def produce(
    settings: Settings,
    values: Sequence[bytes | None],
    keys: list[bytes] | None = None,
    headers: ReceivedHeaders = (),
) -> None:
    producer = AIOKafkaProducer(**client_options(settings))
    await producer.start()
    try:
        topic = settings.topic(Topic.COMMANDS)
        for number, value in enumerate(values):
            await producer.send_and_wait(topic, value, key=keys[number] if keys else None, headers=list(headers))
    finally:
        await producer.stop()


async def position(settings: Settings) -> int:
    """Committed position of the only partition; 0 without one."""
    place = TopicPartition(settings.topic(Topic.COMMANDS), 0)
    return (await committed(settings, settings.topic_prefix + GROUP)).get(place, 0)


@asynccontextmanager
async def running(
    settings: Settings,
    consume: Consume,
    supervisor: type[SupervisorStrategy] | None = None,
    poll_interval: timedelta | None = None,
    **topic_options: Any,
) -> AsyncIterator[faust.App]:
    """Faust with its own acks, and with the processor's other settings."""
    app = make_app(settings)
    app.conf.broker_commit_interval = COMMIT_SECONDS
    if poll_interval is not None:
        app.conf.broker_max_poll_interval = poll_interval.total_seconds()
    options: dict[str, Any] = {"key_type": bytes, "value_type": bytes, "value_serializer": "raw"}
    topic = app.topic(settings.topic(Topic.COMMANDS), key_serializer="raw", **(options | topic_options))
    app.agent(topic, name="test", supervisor_strategy=supervisor)(consume)
    await app.start()
    try:
        yield app
    finally:
        # After a crash Faust's stop raises because of parts that are closed already, or waits for their answer.
        with suppress(asyncio.CancelledError, RuntimeError, TimeoutError):
            await asyncio.wait_for(app.stop(), 20)


async def test_faust_acks_the_event_of_an_exception_that_leaves_the_agent(settings: Settings) -> None:
    await produce(settings, [b"%d" % number for number in range(RECORDS)])
    handled: list[bytes] = []

    async def consume(stream: StreamT[Any]) -> None:
        async for value in stream:
            if value == b"5":
                raise RuntimeError("unexpected")
            handled.append(value)

    async with running(settings, consume):
        await wait_for_async(lambda: b"19" in handled, SECONDS, "the last record")
    assert len(handled) == RECORDS - 1
    assert await position(settings) == RECORDS, "the record that was not handled counts as done"


async def test_faust_acks_the_event_of_an_exception_under_a_crashing_supervisor(settings: Settings) -> None:
    await produce(settings, [b"0"])
    messages = []

    async def consume(stream: StreamT[Any]) -> None:
        async for _ in stream:
            assert stream.current_event is not None
            messages.append(stream.current_event.message)
            raise RuntimeError("unexpected")

    async with running(settings, consume, CrashingSupervisor) as app:
        await wait_for_async(lambda: bool(app.crashed), SECONDS, "the crash")
        await wait_for_async(lambda: bool(messages[0].acked), SECONDS, "the ack")


async def test_faust_acks_what_it_cannot_decode_and_no_agent_sees_it(settings: Settings) -> None:
    await produce(settings, [b"1", b"not json", b"3"])
    seen = []

    async def consume(stream: StreamT[Any]) -> None:
        async for value in stream:
            seen.append(value)

    async with running(settings, consume, value_type=int, value_serializer="json"):
        await wait_for_async(lambda: 3 in seen, SECONDS, "the last record")
    assert seen == [1, 3]
    assert await position(settings) == 3, "the record that no agent saw counts as done"


async def test_faust_acks_out_of_order_commit_over_an_unacked_record(settings: Settings) -> None:
    """Its bookkeeping has an off-by-one: it overlooks a gap of one right above the committed position."""
    await produce(settings, [b"%d" % number for number in range(4)])
    held = []

    async def consume(stream: StreamT[Any]) -> None:
        async for event in stream.noack().events():  # type: ignore[attr-defined]
            held.append(event)

    async with running(settings, consume) as app:
        await wait_for_async(lambda: len(held) == 4, SECONDS, "all records")
        held[0].ack()
        await app.consumer.commit()
        assert await position(settings) == 1
        # Offset 1 stays unacked, 2 and 3 are acked.
        held[2].ack()
        held[3].ack()
        await app.consumer.commit()
        assert await position(settings) == 4, "committed over offset 1"
        held[1].ack()


async def test_faust_with_several_actors_loses_the_order_of_a_key(settings: Settings) -> None:
    await produce(settings, [b"%d" % number for number in range(RECORDS)], keys=[b"one"] * RECORDS)
    ended: list[bytes] = []

    async def consume(stream: StreamT[Any]) -> None:
        async for value in stream:
            await asyncio.sleep(0.05 if int(value) % 2 == 0 else 0)
            ended.append(value)

    app = make_app(settings)
    topic = app.topic(settings.topic(Topic.COMMANDS), value_type=bytes, value_serializer="raw")
    app.agent(topic, name="test", concurrency=2)(consume)
    await app.start()
    try:
        await wait_for_async(lambda: len(ended) == RECORDS, SECONDS, "all records")
    finally:
        await asyncio.wait_for(app.stop(), 20)
    assert ended != sorted(ended, key=int)


async def test_faust_send_only_enqueues(settings: Settings) -> None:
    async with running(settings, _ignore) as app:
        # The events topic is compacted: a record without a key is refused.
        target = app.topic(settings.topic(Topic.EVENTS), value_serializer="raw")
        enqueued = await target.send(value=b"x")
        with pytest.raises(KafkaError):
            await enqueued


async def test_fausts_own_producer_is_not_idempotent(settings: Settings) -> None:
    async with running(settings, _ignore) as app:
        await app.producer.maybe_start()
        producer = app.producer._producer  # type: ignore[attr-defined]
        assert producer._txn_manager is None


async def test_faust_starts_on_a_missing_topic_and_the_processor_does_not(settings: Settings) -> None:
    other = settings.model_copy(update={"topic_prefix": "nobody-made-these."})
    with pytest.raises(ConfigurationError, match=r"missing topics: .*imagepipe topics apply"):
        await require_topics(other)

    async with running(other, _ignore) as app:
        assert not app.crashed
        assert app.consumer.assignment() == set()


async def test_faust_never_rejoins_after_the_poll_interval(settings: Settings) -> None:
    """Too long without a poll, it leaves the group. Then aiokafka waits for a poll, and Faust waits for the join."""
    await produce(settings, [b"%d" % number for number in range(BUFFERED_RECORDS + RECORDS)])
    busy, handled = asyncio.Event(), list[bytes]()

    async def consume(stream: StreamT[Any]) -> None:
        async for value in stream:
            await busy.wait()
            handled.append(value)

    async with running(settings, consume, poll_interval=timedelta(seconds=2)) as app:
        await wait_for_async(lambda: app.consumer_generation_id > 0 and not app.rebalancing, SECONDS, "membership")
        await wait_for_async(lambda: app.rebalancing, SECONDS, "the group to be left")
        busy.set()
        await asyncio.sleep(5)
        assert app.rebalancing
        assert len(handled) < BUFFERED_RECORDS + RECORDS
    assert make_app(settings).conf.broker_max_poll_interval >= timedelta(days=1).total_seconds()


async def test_faust_passes_the_maximum_metadata_age_to_its_client(settings: Settings) -> None:
    async with running(settings, _ignore) as app:
        client = app.consumer._thread._consumer._client  # type: ignore[attr-defined]
        assert client._metadata_max_age_ms == METADATA_MAX_AGE_MS


async def test_faust_creates_no_topics_of_its_own(settings: Settings) -> None:
    admin = AIOKafkaAdminClient(**client_options(settings))
    await admin.start()
    try:
        async with running(settings, _ignore):
            names = {name for name in await admin.list_topics() if name.startswith(settings.topic_prefix)}
        assert names == {settings.topic(topic) for topic in Topic}
    finally:
        await admin.close()


async def _ignore(stream: StreamT[Any]) -> None:
    async for _ in stream:
        pass


class Ours:
    """The processor's agent on a real topic, its handler replaced by what a test needs."""

    def __init__(self, settings: Settings, handle: Callable[[int], Awaitable[None]], attempts: int = 1) -> None:
        self.settings = settings
        self.failures: list[BaseException] = []
        self.dead_letters = MemoryDeadLetters()
        self.app = make_app(settings)
        self.stream = CommandStream(self.app, settings)
        outage_seconds = settings.outage_retry_limit.total_seconds()
        policy = policy_of(
            self.dead_letters, outage_seconds=outage_seconds, attempts=attempts, limit=50, prefix=settings.topic_prefix
        )
        bounds = Bounds(images=8, bytes=1000, pixels=1000, waiting=8)
        self.agent = Agent(
            Delivery(_Handled(handle), policy),
            bounds,
            epoch=1,
            commit=self.stream.commit,
            on_failure=self.failures.append,
        )
        self.stream.feed(self.agent)

    async def __aenter__(self) -> "Ours":
        await self.app.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.agent.close(0)
        await asyncio.wait_for(self.app.stop(), 20)


class _Handled(Handler):
    """Reports the handled record to a test: the number in its owner's id."""

    def __init__(self, handle: Callable[[int], Awaitable[None]]) -> None:
        super().__init__(MemoryStore(), _no_render, MemoryEventLog(), "")
        self._handle = handle

    async def handle(self, logged: LoggedCommand) -> Event | None:
        await self._handle(int(logged.command.owner.id))
        return None


async def _no_render(owner: Owner, data: bytes, ladder: Any) -> Any:
    raise AssertionError("nothing is rendered here")


def fences(count: int) -> list[bytes]:
    return [encode(OwnerCleared(owner=Owner(type="user", id=str(number)))) for number in range(count)]


async def test_agent_commits_nothing_above_an_unsettled_record(settings: Settings) -> None:
    await produce(settings, fences(6))
    gate, ended = asyncio.Event(), []

    async def handle(number: int) -> None:
        if number == 2:
            await gate.wait()
        ended.append(number)

    async with Ours(settings, handle) as ours:
        await wait_for_async(lambda: len(ended) == 5, SECONDS, "all but one")
        await ours.agent.commit()
        assert await position(settings) == 2
        gate.set()
        await wait_for_async(lambda: len(ended) == 6, SECONDS, "the last")
        await ours.agent.commit()
        assert await position(settings) == 6


async def test_agent_dead_letters_invalid_and_failing_records_and_only_then_commits(settings: Settings) -> None:
    values = [*fences(1), *POISON, *fences(2)[1:]]
    await produce(settings, values, [b"user:1"] * len(values))
    unversioned = encode(records.uploaded())
    await produce(settings, [unversioned], headers=[(VERSION_HEADER, b"9" * 5000)])
    # Kafka takes headers without a value.
    await produce(settings, fences(1), headers=[(VERSION_HEADER, None), (TRACEPARENT, None)])
    await produce(settings, [b"{}"], headers=[(VERSION_HEADER, None), (TRACEPARENT, None)])

    async def handle(number: int) -> None:
        if number == 1:
            raise RuntimeError("unexpected")

    async with Ours(settings, handle) as ours:
        await wait_for_async(
            lambda: len(ours.dead_letters.records) == len(POISON) + 3, SECONDS, "all that cannot be handled"
        )
        await ours.agent.commit()
    assert await position(settings) == len(POISON) + 5
    assert {value for _, value, _ in ours.dead_letters.records} == {*POISON, fences(2)[1], unversioned, b"{}"}
    for _, _, headers in ours.dead_letters.records:
        assert dict(headers)["dlq-source-topic"] == settings.topic(Topic.COMMANDS).encode()
        assert dict(headers)["dlq-attempts"] == b"1"


async def test_agent_leaves_unfinished_records_to_the_next_worker(settings: Settings) -> None:
    """A second worker joins while records are being handled: nothing is lost, and nothing unsettled was committed."""
    await produce(settings, fences(12))
    ended: list[int] = []

    async def slow(number: int) -> None:
        await asyncio.sleep(0.3)
        ended.append(number)

    async with Ours(settings, slow) as first:
        await wait_for_async(lambda: len(ended) >= 2, SECONDS, "the first records")
        async with Ours(settings, slow) as second:
            await wait_for_async(lambda: set(ended) == set(range(12)), 40, "all records by one of the two")
            await first.agent.commit()
            await second.agent.commit()
            assert not first.failures
            assert not second.failures
    assert await position(settings) == 12
