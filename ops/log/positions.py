"""Where in a topic to begin: the beginning, a time, or an offset of one partition."""

import re
from datetime import UTC, datetime, timedelta

from ops.log.reader import TopicReader
from shared.errors import ConfigurationError

HELP = "`beginning`, a time (2026-11-22T10:00 in UTC, or an age such as 90m, 12h, 3d), or an offset (with --partition)."
_AGE = re.compile(r"(\d+)([smhd])")
_UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days"}


def parse_age(text: str) -> timedelta:
    """A duration such as 90m or 3d. Raises ConfigurationError."""
    match = _AGE.fullmatch(text)
    if match is None:
        raise ConfigurationError(f"{text!r} is no duration: write for example 90m, 12h or 3d")
    return timedelta(**{_UNITS[match[2]]: int(match[1])})


def parse_time(text: str, now: datetime) -> datetime:
    """A moment: ISO 8601 (UTC where it names no zone) or an age. Raises ConfigurationError."""
    if _AGE.fullmatch(text):
        return now - parse_age(text)
    try:
        moment = datetime.fromisoformat(text)
    except ValueError as error:
        raise ConfigurationError(f"{text!r} is no time; give {HELP}") from error
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


async def start_offsets(reader: TopicReader, start: str, partition: int | None) -> dict[int, int]:
    """First offset to read of each partition, or of the one named.

    Raises ConfigurationError where `start` says nothing, or is an offset of no partition. Raises Unavailable.
    """
    beginnings = await reader.beginnings()
    if partition is not None and partition not in beginnings:
        raise ConfigurationError(f"{reader.topic} has the partitions {min(beginnings)} to {max(beginnings)}")
    if start.isdigit():
        if partition is None:
            raise ConfigurationError("an offset needs --partition: each partition has offsets of its own")
        return {partition: max(int(start), beginnings[partition])}
    offsets = beginnings if start == "beginning" else await reader.at(parse_time(start, datetime.now(UTC)))
    return offsets if partition is None else {partition: offsets[partition]}
