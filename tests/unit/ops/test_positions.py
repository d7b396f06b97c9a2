"""Ages and times as an operator types them."""

from datetime import UTC, datetime, timedelta

import pytest

from ops.log.positions import parse_age, parse_time
from shared.errors import ConfigurationError

NOW = datetime(2026, 11, 22, 12, tzinfo=UTC)


@pytest.mark.parametrize(
    ("text", "age"),
    [
        ("90m", timedelta(minutes=90)),
        ("12h", timedelta(hours=12)),
        ("3d", timedelta(days=3)),
        ("5s", timedelta(seconds=5)),
    ],
)
def test_ages_are_parsed(text: str, age: timedelta) -> None:
    assert parse_age(text) == age
    assert parse_time(text, NOW) == NOW - age


@pytest.mark.parametrize("text", ["", "h", "12", "1.5h", "-3d", "3 d"])
def test_invalid_age_is_refused(text: str) -> None:
    with pytest.raises(ConfigurationError):
        parse_age(text)


def test_times_are_utc_unless_they_name_a_zone() -> None:
    assert parse_time("2026-11-22T10:00", NOW) == datetime(2026, 11, 22, 10, tzinfo=UTC)
    assert parse_time("2026-11-22T10:00+02:00", NOW) == datetime(2026, 11, 22, 8, tzinfo=UTC)
    with pytest.raises(ConfigurationError):
        parse_time("yesterday", NOW)
