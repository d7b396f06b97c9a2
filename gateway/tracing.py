"""W3C trace context of the request being handled: taken over from the caller, or begun here."""

import re
import secrets
from contextvars import ContextVar

_TRACEPARENT = re.compile(r"00-(?!0{32})[0-9a-f]{32}-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}")
_current: ContextVar[str | None] = ContextVar("traceparent", default=None)


def begin(header: str | None) -> None:
    """Set the context from a `traceparent` header; a missing or invalid one begins a new trace."""
    valid = header is not None and _TRACEPARENT.fullmatch(header) is not None
    _current.set(header if valid else f"00-{secrets.token_hex(16)}-{secrets.token_hex(8)}-01")


def traceparent() -> str | None:
    """The context to hand on; None outside of a request."""
    return _current.get()
