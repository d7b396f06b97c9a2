"""What the indexer's delivery adds to the policy: what is skipped, the version in the DLQ, and the log's fields."""

import pytest
import structlog

from indexer.delivery import Delivery
from indexer.handler import Barrier, Content, Handler
from shared.consuming import delivery
from shared.consuming.record import ConsumedRecord
from shared.contract.encoding import encode
from shared.contract.headers import VERSION_HEADER
from shared.contract.keys import command_version, new_id
from shared.errors import Unavailable
from shared.observability import tracing
from shared.observability.logs import with_trace
from shared.observability.metrics import Service
from shared.settings import Topic
from tests.support import records
from tests.support.delivery import policy_of
from tests.support.indexing import SHARDS, consumed, handler_of, nothing_lower
from tests.support.memory.ports import MemoryDeadLetters, MemoryIndex
from tests.support.metric_samples import sample

SKIPPED = 'imagepipe_indexer_records_total{result="skipped",topic="images.commands",type="unreadable"}'


class Scripted(Handler):
    """Raises these errors, once each, and then succeeds."""

    def __init__(self, *errors: Exception) -> None:
        super().__init__(MemoryIndex(), shards=SHARDS, concurrency=1, fence=None)
        self.errors = list(errors)
        self.calls = 0

    async def handle(self, content: Content, lower_settled: Barrier) -> None:
        self.calls += 1
        if self.errors:
            raise self.errors.pop(0)


class TestDelivery:
    @pytest.fixture(autouse=True)
    def _no_pauses(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(delivery, "FIRST_PAUSE_SECONDS", 0.001)

    def setup_method(self) -> None:
        self.dead = MemoryDeadLetters()

    async def deliver(self, handler: Handler, record: ConsumedRecord) -> None:
        policy = policy_of(self.dead, outage_seconds=5, attempts=3, prefix="prefix.")
        await Delivery(handler, policy, epoch=1).deliver(record, nothing_lower)

    async def test_each_log_entry_names_the_image_and_its_trace(self) -> None:
        trace_id, answer = "0af7651916cd43dd8448eb211c80319c", records.ready(new_id(), new_id(), 8)
        header = f"00-{trace_id}-b7ad6b7169203331-01".encode()
        record = ConsumedRecord(Topic.EVENTS, 2, 5, b"k", encode(answer), [("traceparent", header)])
        structlog.reset_defaults()
        processors = [structlog.contextvars.merge_contextvars, with_trace]
        with structlog.testing.capture_logs(processors=processors) as lines:
            await self.deliver(Scripted(Unavailable("cassandra", "away")), record)

        assert [line["event"] for line in lines] == ["engine_unavailable", "record_done"]
        for line in lines:
            assert (line["image_id"], line["owner"]) == (str(answer.image_id), answer.owner.key)
            assert (line["type"], line["version"], line["trace_id"]) == ("image.ready", "8", trace_id)
            assert (line["topic"], line["partition"], line["offset"]) == ("images.events", 2, 5)

    async def test_unreadable_command_is_skipped_for_the_processor_to_dead_letter(self) -> None:
        before = sample(Service.INDEXER, SKIPPED)
        handler = Scripted()
        await self.deliver(handler, consumed(b"{", 1))
        assert (handler.calls, self.dead.records) == (0, [])
        assert sample(Service.INDEXER, SKIPPED) == before + 1

    @pytest.mark.parametrize("topic", [Topic.COMMANDS, Topic.EVENTS])
    @pytest.mark.parametrize("name", [VERSION_HEADER, tracing.TRACEPARENT])
    async def test_header_without_a_value_counts_as_absent(self, topic: Topic, name: str) -> None:
        record = records.uploaded() if topic is Topic.COMMANDS else records.ready(new_id(), new_id(), 8)
        await self.deliver(handler_of(MemoryIndex()), ConsumedRecord(topic, 0, 1, b"k", encode(record), [(name, None)]))
        assert self.dead.records == []

    async def test_command_whose_version_is_invalid_is_skipped_for_the_processor_to_dead_letter(self) -> None:
        index, command = MemoryIndex(), records.uploaded()
        headers = [(VERSION_HEADER, b"9" * 5000)]
        await self.deliver(handler_of(index), ConsumedRecord(Topic.COMMANDS, 0, 1, b"k", encode(command), headers))
        assert (await index.image(command.image_id), self.dead.records) == (None, [])

    async def test_unreadable_event_is_dead_lettered_at_once_and_untouched(self) -> None:
        handler = Scripted()
        await self.deliver(handler, consumed(b"{", 9, Topic.EVENTS))
        assert handler.calls == 0
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

    async def test_unexpected_errors_are_retried_and_then_dead_lettered(self) -> None:
        handler = Scripted(KeyError("a"), KeyError("b"))
        await self.deliver(handler, consumed(records.uploaded(), 1))
        assert (handler.calls, self.dead.records) == (3, [])
        handler = Scripted(*[KeyError("odd")] * 3)
        await self.deliver(handler, consumed(records.uploaded(), 7))
        headers = {name: text.decode() for name, text in self.dead.records[0][2]}
        assert (headers["dlq-attempts"], headers["dlq-version"]) == ("3", str(command_version(1, 7)))
