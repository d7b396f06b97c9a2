"""Value and headers of a command that is appended again, by a redrive or by a copy of topics."""

from typing import Final

from shared.contract.encoding import encode
from shared.contract.headers import VERSION_HEADER, Headers
from shared.contract.logged_command import LoggedCommand, LoggedDelete, LoggedFence

REDRIVES_HEADER: Final = "imagepipe-redrives"
"""On a redriven record: the entry of the DLQ that it was, as `partition:offset`. If the record fails once more, its new
entry has this header and stands for the old one. It means nothing to another DLQ, so a copy leaves it out."""


def resent(value: bytes | None, logged: LoggedCommand, headers: Headers) -> tuple[bytes | None, Headers]:
    """Value and headers with which the command `logged`, which was parsed from `value`, is appended again.

    1. A render command keeps its first version, in a header. So a repetition has the same effect as the first time.
    2. A delete gets the version of its new offset, because it must apply to all records before it.
    3. A fence gets a new version too. Its bound is its first version, so that it does not delete later uploads.
    """
    headers = without(headers, REDRIVES_HEADER)
    if isinstance(logged, LoggedFence):
        return encode(logged.bounded), headers
    if isinstance(logged, LoggedDelete):
        return value, headers
    return value, with_version(headers, logged.version)


def with_version(headers: Headers, version: int) -> Headers:
    """The headers with this first version; an existing one is replaced."""
    return [*without(headers, VERSION_HEADER), (VERSION_HEADER, str(version).encode())]


def without(headers: Headers, excluded: str) -> Headers:
    """The headers that have other names."""
    return [(name, content) for name, content in headers if name != excluded]
