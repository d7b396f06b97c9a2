"""The parts of handling one command: each is a span and an observation, and together they are told in the log."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

from opentelemetry.trace import SpanKind

from shared.observability import tracing
from shared.observability.metrics import STAGE_SECONDS

_seconds: ContextVar[dict[str, float] | None] = ContextVar("stage_seconds", default=None)


@contextmanager
def collected() -> Iterator[dict[str, float]]:
    """Seconds of each stage that ends within the block, by name; those of repeated attempts are added up."""
    found: dict[str, float] = {}
    token = _seconds.set(found)
    try:
        yield found
    finally:
        _seconds.reset(token)


@contextmanager
def stage(name: str, kind: SpanKind = SpanKind.INTERNAL) -> Iterator[None]:
    """Time the block as this stage, also where it fails. `name` is one of STAGE_SECONDS' values."""
    started = time.perf_counter()
    try:
        with tracing.span(name, kind=kind):
            yield
    finally:
        seconds = time.perf_counter() - started
        STAGE_SECONDS.labels(name).observe(seconds)
        found = _seconds.get()
        if found is not None:
            found[name] = found.get(name, 0.0) + seconds
