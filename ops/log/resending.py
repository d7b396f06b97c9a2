"""What a command keeps of its first time in the log when it is sent once more, by a redrive or by a copy."""

from shared.contract.encoding import encode
from shared.contract.headers import VERSION_HEADER, Headers
from shared.contract.logged_command import LoggedCommand, LoggedDelete, LoggedFence


def resent(value: bytes | None, logged: LoggedCommand, headers: Headers) -> tuple[bytes | None, Headers]:
    """Value and headers for the second time of the command `logged`, which was read from `value`.

    1. A command keeps, in a header, the version that it had at first: what it did stays done, what it lost it loses.
    2. A delete takes the version of its new offset: it must win over everything that came before it.
    3. A fence takes a new version too, and is bounded by its first: it clears nothing that was uploaded after it.
    """
    if isinstance(logged, LoggedFence):
        return encode(logged.bounded), headers
    if isinstance(logged, LoggedDelete):
        return value, headers
    return value, with_version(headers, logged.version)


def with_version(headers: Headers, version: int) -> Headers:
    """The headers with this first version in place of any other."""
    kept = [(name, content) for name, content in headers if name != VERSION_HEADER]
    return [*kept, (VERSION_HEADER, str(version).encode())]
