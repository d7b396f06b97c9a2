"""The headers of a dead letter, and the limit on dead letters per minute."""

import pytest

from shared.consuming.dead_letters import DeadLetterLimit, TooManyDeadLetters, dead_letter_headers, record_headers
from shared.contract.headers import Headers


def raised(message: str) -> Exception:
    try:
        raise ValueError(message)
    except ValueError as error:
        return error


def test_own_headers_stay_and_the_reason_follows() -> None:
    own = [("ce_type", b"image.ready"), ("ce_type", b"twice"), ("binary", b"\xff")]
    found = dead_letter_headers(
        own, topic="t.images.events", partition=3, offset=17, version=8, error=raised("what"), attempts=2
    )
    assert found[:3] == own
    added = dict(found[3:])
    assert added.pop("dlq-stack").endswith(b"ValueError: what\n")
    assert added == {
        "dlq-source-topic": b"t.images.events",
        "dlq-source-partition": b"3",
        "dlq-source-offset": b"17",
        "dlq-version": b"8",
        "dlq-error": b"ValueError: what",
        "dlq-attempts": b"2",
    }


def test_own_headers_cannot_be_taken_for_added_ones_and_come_back() -> None:
    own: Headers = [("dlq-error", b"forged"), ("ce_type", b"x"), ("dlq-settles", b"5"), ("dlq-source-topic", b"other")]
    for _ in range(3):
        found = dead_letter_headers(
            own, topic="t", partition=0, offset=0, version=None, error=raised("what"), attempts=1
        )
        added = [(name, value) for name, value in found if name in ("dlq-error", "dlq-settles", "dlq-source-topic")]
        assert added == [("dlq-source-topic", b"t"), ("dlq-error", b"ValueError: what")]
        assert record_headers(found) == own
        # A record that was copied out of the DLQ by hand, with all its headers.
        own = found


def test_headers_without_a_value_are_left_out() -> None:
    own = [("traceparent", None), ("ce_type", b"image.ready")]
    found = dead_letter_headers(own, topic="t", partition=0, offset=0, version=None, error=raised("what"), attempts=1)
    assert [name for name, _ in found][:2] == ["ce_type", "dlq-source-topic"]


def test_added_headers_are_bounded() -> None:
    error = raised("ü" * 100_000 + "\ud800")
    found = dead_letter_headers([], topic="t", partition=0, offset=0, version=None, error=error, attempts=1)
    assert "dlq-version" not in dict(found)
    assert sum(len(name) + len(value) for name, value in found) < 5_000
    assert dict(found)["dlq-error"].decode().startswith("ValueError: üü")
    assert dict(found)["dlq-stack"].decode()


def test_limit_counts_every_window_of_a_minute() -> None:
    now = [0.0]
    limit = DeadLetterLimit(2, lambda: now[0])
    limit.take()
    now[0] = 40
    limit.take()
    now[0] = 59
    with pytest.raises(TooManyDeadLetters, match="2 records"):
        limit.take()
    now[0] = 60
    limit.take()
    with pytest.raises(TooManyDeadLetters):
        limit.take()
