"""Parses the position at which to start in a topic: the beginning, a time, or an offset of one partition."""

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
        raise ConfigurationError(f"{text!r} is not a duration: use for example 90m, 12h or 3d")
    return timedelta(**{_UNITS[match[2]]: int(match[1])})


def parse_time(text: str, now: datetime) -> datetime:
    """A time in ISO 8601 (UTC if it has no time zone), or an age such as 12h. Raises ConfigurationError."""
    if _AGE.fullmatch(text):
        return now - parse_age(text)
    try:
        moment = datetime.fromisoformat(text)
    except ValueError as error:
        raise ConfigurationError(f"{text!r} is not a time; use {HELP}") from error
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


async def start_offsets(reader: TopicReader, start: str, partition: int | None) -> dict[int, int]:
    """Maps each partition, or only the given one, to its first offset to read.

    Raises Unavailable. Raises ConfigurationError if `start` is invalid, or if it is an offset without a partition.
    """
    beginnings = await reader.beginnings()
    if partition is not None and partition not in beginnings:
        raise ConfigurationError(f"{reader.topic} has the partitions {min(beginnings)} to {max(beginnings)}")
    if start.isdigit():
        if partition is None:
            raise ConfigurationError("an offset needs --partition, because each partition has its own offsets")
        return {partition: max(int(start), beginnings[partition])}
    offsets = beginnings if start == "beginning" else await reader.at(parse_time(start, datetime.now(UTC)))
    return offsets if partition is None else {partition: offsets[partition]}
