"""The stages of a command: each stage has a span and a metric, and the log line of the command lists their times."""

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
    """Maps the name of each stage that ends within the block to its seconds. Repeated attempts are added up."""
    found: dict[str, float] = {}
    token = _seconds.set(found)
    try:
        yield found
    finally:
        _seconds.reset(token)


@contextmanager
def stage(name: str, kind: SpanKind = SpanKind.INTERNAL) -> Iterator[None]:
    """Measure the block as this stage, also if it raises an error. `name` is one of the values of STAGE_SECONDS."""
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
