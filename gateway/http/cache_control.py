"""The header `Cache-Control`, in requests and responses."""

import math
from datetime import timedelta
from functools import lru_cache

from fastapi import Request
from werkzeug.datastructures import RequestCacheControl
from werkzeug.http import parse_cache_control_header

NO_STORE = {"Cache-Control": "no-store"}
"""For responses to writes, for secrets, and for errors."""

PARSED_HEADERS = 16
"""Headers of requests that are not parsed again. Each fits in a request head, so all have at most 1 MB."""

REVALIDATE = {"Cache-Control": "no-cache"}
"""For content that changes under one URL. A cache may store it, but must ask the gateway before each use."""


def cacheable(lifetime: timedelta, *, immutable: bool = False) -> dict[str, str]:
    """The header for a response that any cache may serve for this time, rounded up to whole seconds."""
    value = f"public, max-age={math.ceil(lifetime.total_seconds())}"
    return {"Cache-Control": f"{value}, immutable" if immutable else value}


def wants_fresh(request: Request) -> bool:
    """Whether the client asks for a response that no cache of the gateway gives: `Cache-Control: no-cache`."""
    header = request.headers.get("cache-control")
    return header is not None and _has_no_cache(header)


@lru_cache(PARSED_HEADERS)
def _has_no_cache(header: str) -> bool:
    return bool(parse_cache_control_header(header, cls=RequestCacheControl).no_cache)
