"""Traces: carries the W3C trace context through HTTP and Kafka headers, and exports spans to a collector.

Without a configured collector no SDK is loaded, no thread runs, and a span costs microseconds. The services then pass
on the `traceparent` of the caller unchanged. If the caller sends none, the gateway makes one. So the logs of all
services have the same `trace_id` for one request in any case.
"""

import random
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import cache

from opentelemetry import trace
from opentelemetry.context import Context, attach, detach
from opentelemetry.trace import NonRecordingSpan, Span, SpanContext, SpanKind, TraceFlags
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from shared.settings import Settings

Attributes = Mapping[str, str | int | float | bool]

TRACEPARENT = "traceparent"
FLUSH_SECONDS = 2.0
"""How long a process waits at its end until the collector has the last spans."""

_PROPAGATOR = TraceContextTextMapPropagator()
_EMPTY = Context()
_SAMPLED = TraceFlags(TraceFlags.SAMPLED)
_TRACER = trace.get_tracer("imagepipe")


def configure_tracing(settings: Settings, service: str) -> Callable[[], None]:
    """Export spans to the collector of the settings, if there is one, from a separate thread.

    An unavailable collector does not slow the service down: at most 2,048 spans wait, and more are dropped. Returns a
    function that the process calls before it ends. It sends the remaining spans within FLUSH_SECONDS.
    """
    endpoint = settings.otel_exporter_otlp_endpoint
    if endpoint is None:
        return _nothing
    # Imported here, because these imports take half a second and are needed only with a collector.
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
    from opentelemetry.sdk.resources import SERVICE_NAME, Resource
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import BatchSpanProcessor

    # A service name from OTEL_SERVICE_NAME or OTEL_RESOURCE_ATTRIBUTES has priority, as is usual in OpenTelemetry.
    named = Resource.create().attributes.get(SERVICE_NAME, "unknown_service")
    given = {} if str(named).partition(":")[0] != "unknown_service" else {SERVICE_NAME: f"imagepipe-{service}"}
    provider = TracerProvider(resource=Resource.create(given), shutdown_on_exit=False)
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter(endpoint=f"{endpoint.rstrip('/')}/v1/traces")))
    trace.set_tracer_provider(provider)
    _records.cache_clear()

    def flush() -> None:
        # shutdown() may block longer than its time-outs if the collector hangs, so a daemon thread runs it.
        closing = threading.Thread(target=provider.shutdown, daemon=True)
        closing.start()
        closing.join(FLUSH_SECONDS)

    return flush


def _nothing() -> None:
    return None


def continued(header: str | None) -> Context:
    """The trace context of a `traceparent` header. A missing or invalid header starts a new trace.

    The context is built from an empty one, so it does not contain the current span of this task.
    """
    if header or _records():
        found = _PROPAGATOR.extract({TRACEPARENT: header} if header else {}, _EMPTY)
        if trace.get_current_span(found).get_span_context().is_valid or _records():
            return found
    # As the SDK makes ids: they are unique, not secret, so that no request waits for the kernel's random numbers.
    trace_id, span_id = random.getrandbits(128) or 1, random.getrandbits(64) or 1
    fresh = SpanContext(trace_id, span_id, is_remote=False, trace_flags=_SAMPLED)
    return trace.set_span_in_context(NonRecordingSpan(fresh), _EMPTY)


@cache
def _records() -> bool:
    """Whether an SDK records spans. Then the first span of a new trace makes the trace id.

    This is asked several times in a request, and stays the same after `configure_tracing`.
    """
    return not isinstance(trace.get_tracer_provider(), trace.ProxyTracerProvider)


@contextmanager
def span(
    name: str,
    attributes: Attributes | None = None,
    *,
    kind: SpanKind = SpanKind.INTERNAL,
    parent: Context | None = None,
) -> Iterator[Span]:
    """A span that lasts as long as the block and is the current span in it.

    Its parent is `parent`, or the current span. An exception that leaves the block marks the span as failed and is
    raised again.
    """
    if _records():
        with _TRACER.start_as_current_span(name, context=parent, kind=kind, attributes=attributes) as current:
            yield current
    elif parent is None:
        yield trace.get_current_span()
    else:
        # What the tracer would do, in a tenth of the time: only the trace context of the parent is passed on.
        token = attach(parent)
        try:
            yield trace.get_current_span()
        finally:
            detach(token)


def traceparent() -> str | None:
    """Header value with which a receiver continues the current span; None outside of a trace."""
    carrier: dict[str, str] = {}
    _PROPAGATOR.inject(carrier)
    return carrier.get(TRACEPARENT)


def trace_id() -> str | None:
    """The id of the current trace, 32 hex digits; None outside of a trace."""
    found = trace.get_current_span().get_span_context()
    return f"{found.trace_id:032x}" if found.is_valid else None
