"""The delivery policy: each record ends settled, in the DLQ, or with a stopped process."""

import pytest
import structlog

from shared.consuming import delivery
from shared.consuming.dead_letters import TooManyDeadLetters
from shared.consuming.delivery import DEAD_LETTERED
from shared.consuming.record import ConsumedRecord
from shared.contract.headers import Headers
from shared.errors import PoisonRecord, RecordTooLarge, Unavailable, UnknownOutcome
from shared.observability.metrics import Service
from shared.settings import Topic
from tests.support.delivery import policy_of
from tests.support.memory.ports import MemoryDeadLetters
from tests.support.metric_samples import sample

TRACE = ("traceparent", b"00-1-2-01")
RETRIES = "imagepipe_consumer_retries_total"
DEAD_LETTERS = "imagepipe_consumer_dead_letters_total"
S3_IS_UNAVAILABLE = Unavailable("s3", "no answer")


@pytest.fixture(autouse=True)
def _short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(delivery, "FIRST_PAUSE_SECONDS", 0.001)


def record(topic: Topic = Topic.COMMANDS) -> ConsumedRecord:
    return ConsumedRecord(topic, 3, 5, b"user:1", b"{", [TRACE, ("without", None)])


class Scripted:
    """Raises the errors it is given, one at each call, and then returns `applied`."""

    def __init__(self, *errors: Exception) -> None:
        self.errors = list(errors)
        self.calls = 0

    async def __call__(self) -> str:
        self.calls += 1
        if self.errors:
            raise self.errors.pop(0)
        return "applied"


class UnavailableDeadLetters(MemoryDeadLetters):
    """A DLQ that takes nothing before it was asked `failures` times."""

    def __init__(self, failures: int) -> None:
        super().__init__()
        self.failures = failures

    async def send(self, key: bytes | None, value: bytes | None, headers: Headers) -> None:
        if self.failures:
            self.failures -= 1
            raise Unavailable("kafka", "the DLQ is unavailable")
        await super().send(key, value, headers)


async def test_handled_record_is_settled_with_its_outcome() -> None:
    dead, handle = MemoryDeadLetters(), Scripted()
    assert await policy_of(dead).deliver(record(), 8, handle) == "applied"
    assert (handle.calls, dead.records) == (1, [])


async def test_outage_within_the_limit_is_waited_for() -> None:
    dead = MemoryDeadLetters()
    handle = Scripted(*[S3_IS_UNAVAILABLE] * 3, UnknownOutcome("kafka", "no ack"))
    assert await policy_of(dead, outage_seconds=5).deliver(record(), 8, handle) == "applied"
    assert (handle.calls, dead.records) == (5, [])


@pytest.mark.parametrize("topic", [Topic.COMMANDS, Topic.EVENTS])
async def test_outage_beyond_the_limit_is_raised_and_never_dead_lettered(topic: Topic) -> None:
    dead, handle = MemoryDeadLetters(), Scripted(*[S3_IS_UNAVAILABLE] * 500)
    with pytest.raises(Unavailable, match="no answer"):
        await policy_of(dead, outage_seconds=0.05).deliver(record(topic), 8, handle)
    assert handle.calls > 1, "it was tried again before"
    assert dead.records == []


async def test_unreadable_record_is_dead_lettered_at_once() -> None:
    dead, handle = MemoryDeadLetters(), Scripted(PoisonRecord("no JSON"))
    assert await policy_of(dead, attempts=3).deliver(record(), 8, handle) == DEAD_LETTERED
    assert (handle.calls, len(dead.records)) == (1, 1)
    assert dict(dead.records[0][2])["dlq-attempts"] == b"1"


async def test_unexpected_error_is_tried_again() -> None:
    dead, handle = MemoryDeadLetters(), Scripted(KeyError("a"), KeyError("b"))
    assert await policy_of(dead, attempts=3).deliver(record(), 8, handle) == "applied"
    assert (handle.calls, dead.records) == (3, [])


async def test_record_is_dead_lettered_untouched_after_the_last_attempt() -> None:
    dead, handle = MemoryDeadLetters(), Scripted(*[KeyError("name")] * 9)
    assert await policy_of(dead, attempts=3, prefix="eu.").deliver(record(), 8, handle) == DEAD_LETTERED
    assert handle.calls == 3
    [(key, value, headers)] = dead.records
    assert (key, value, headers[0]) == (b"user:1", b"{", TRACE)
    assert "without" not in dict(headers)
    added = {name: text.decode() for name, text in headers[1:]}
    assert added["dlq-source-topic"] == "eu.images.commands"
    assert (added["dlq-source-partition"], added["dlq-source-offset"]) == ("3", "5")
    assert (added["dlq-version"], added["dlq-error"], added["dlq-attempts"]) == ("8", "KeyError: 'name'", "3")
    assert "Traceback" in added["dlq-stack"]


async def test_record_without_a_version_has_none_in_the_dlq() -> None:
    dead = MemoryDeadLetters()
    await policy_of(dead).deliver(record(Topic.EVENTS), None, Scripted(PoisonRecord("no JSON")))
    assert "dlq-version" not in dict(dead.records[0][2])


async def test_outages_between_unexpected_errors_do_not_count_as_attempts() -> None:
    handle = Scripted(KeyError("a"), S3_IS_UNAVAILABLE, KeyError("b"), S3_IS_UNAVAILABLE)
    assert await policy_of(MemoryDeadLetters(), outage_seconds=5, attempts=3).deliver(record(), 8, handle) == "applied"
    assert handle.calls == 5


async def test_dlq_over_its_limit_stops_the_process_and_keeps_the_record() -> None:
    dead = MemoryDeadLetters()
    policy = policy_of(dead, limit=1)
    await policy.deliver(record(), 8, Scripted(PoisonRecord("no JSON")))
    with pytest.raises(TooManyDeadLetters):
        await policy.deliver(record(), 8, Scripted(PoisonRecord("no JSON")))
    assert len(dead.records) == 1


async def test_unavailable_dlq_is_waited_for_within_the_limit() -> None:
    dead = UnavailableDeadLetters(failures=2)
    policy = policy_of(dead, outage_seconds=5)
    assert await policy.deliver(record(), 8, Scripted(PoisonRecord("no JSON"))) == DEAD_LETTERED
    assert len(dead.records) == 1

    with pytest.raises(Unavailable, match="DLQ"):
        await policy_of(UnavailableDeadLetters(10_000), outage_seconds=0.02).deliver(
            record(), 8, Scripted(PoisonRecord("no JSON"))
        )


@pytest.mark.parametrize(
    ("errors", "events", "metric", "reason"),
    [
        ([S3_IS_UNAVAILABLE], ["engine_unavailable"], RETRIES, "s3"),
        ([KeyError("a")], ["record_failed"], RETRIES, "unexpected"),
        ([PoisonRecord("no JSON")], ["record_dead_lettered"], DEAD_LETTERS, "unreadable"),
        ([RecordTooLarge("3 MB")], ["record_dead_lettered"], DEAD_LETTERS, "too_large"),
        ([KeyError("a"), KeyError("b")], ["record_failed", "record_dead_lettered"], DEAD_LETTERS, "unexpected"),
    ],
    ids=["outage", "retried", "unreadable", "too large", "given up"],
)
async def test_each_end_of_a_delivery_is_logged_and_counted(
    errors: list[Exception], events: list[str], metric: str, reason: str
) -> None:
    policy = policy_of(MemoryDeadLetters(), outage_seconds=5, attempts=2)

    series = f'{metric}{{reason="{reason}"}}'
    before = sample(Service.INDEXER, series)
    structlog.reset_defaults()
    with structlog.testing.capture_logs() as lines:
        await policy.deliver(record(), 8, Scripted(*errors))
    assert [line["event"] for line in lines] == events
    assert sample(Service.INDEXER, series) == before + 1
