"""A log line is JSON, also if it holds what JSON or UTF-8 cannot express, and it has the time in UTC."""

import json
import time

import pytest

from shared.observability.logs import as_json, with_timestamp


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        ("größer", "größer"),
        ("\ud800", "\ud800"),
        (1 << 80, 1 << 80),
        (ValueError("x"), "ValueError('x')"),
        ({1: 2}, {"1": 2}),
    ],
)
def test_every_value_can_be_logged(value: object, shown: object) -> None:
    assert json.loads(as_json({"event": "request", "value": value})) == {"event": "request", "value": shown}


@pytest.mark.parametrize(
    ("nanoseconds", "shown"),
    [
        (1_764_245_728_123_456_789, "2025-11-27T12:15:28.123456Z"),
        (1_764_245_728_999_999_999, "2025-11-27T12:15:28.999999Z"),
        (1_764_245_729_000_000_000, "2025-11-27T12:15:29.000000Z"),
        (1_764_245_728_000_007_000, "2025-11-27T12:15:28.000007Z"),
    ],
)
def test_the_time_of_a_line_is_in_utc_and_has_microseconds(
    monkeypatch: pytest.MonkeyPatch, nanoseconds: int, shown: str
) -> None:
    monkeypatch.setattr(time, "time_ns", lambda: nanoseconds)
    assert with_timestamp(None, "info", {})["timestamp"] == shown
