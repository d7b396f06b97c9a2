"""A log line is JSON, also if it holds what JSON or UTF-8 cannot express."""

import json

import pytest

from shared.observability.logs import as_json


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
