"""W3C trace context through HTTP and Kafka headers; and spans, where a collector is configured.

Without one no SDK is loaded, no thread runs and a span costs microseconds: then a caller's `traceparent` is handed on
as it came, and what came without one gets a fresh one, so that the logs of all services have one `trace_id`.
"""

import secrets
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager

from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.trace import NonRecordingSpan, Span, SpanContext, SpanKind, TraceFlags
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from shared.settings import Settings

Attributes = Mapping[str, str | int | float | bool]

TRACEPARENT = "traceparent"
FLUSH_SECONDS = 2.0
"""What the end of a process waits for a collector to take the last spans."""

_PROPAGATOR = TraceContextTextMapPropagator()
_TRACER = trace.get_tracer("imagepipe")


def configure_tracing(settings: Settings, service: str) -> Callable[[], None]:
    """Export spans to the collector that the settings name, if any, from a thread of its own.

    A collector that is away costs nothing but its spans: at most 2,048 wait, and more are dropped. Returns what is to
    be called before the process ends; it sends what is left, within FLUSH_SECONDS.
    """
    endpoint = settings.otel_exporter_otlp_endpoint
    if endpoint is None:
        return _nothing
    # Half a second of imports that nobody pays for who has no collector.
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
    from opentelemetry.sdk.resources import SERVICE_NAME, Resource
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import BatchSpanProcessor

    # A name of the user's own (OTEL_SERVICE_NAME, OTEL_RESOURCE_ATTRIBUTES) wins, as everywhere in OpenTelemetry.
    named = Resource.create().attributes.get(SERVICE_NAME, "unknown_service")
    given = {} if str(named).partition(":")[0] != "unknown_service" else {SERVICE_NAME: f"imagepipe-{service}"}
    provider = TracerProvider(resource=Resource.create(given), shutdown_on_exit=False)
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter(endpoint=f"{endpoint.rstrip('/')}/v1/traces")))
    trace.set_tracer_provider(provider)

    def flush() -> None:
        # In a thread that may be left behind: an export to a collector that hangs has no limit that holds.
        closing = threading.Thread(target=provider.shutdown, daemon=True)
        closing.start()
        closing.join(FLUSH_SECONDS)

    return flush


def _nothing() -> None:
    return None


def continued(header: str | None) -> Context:
    """The trace of a `traceparent` header; a missing or invalid one begins a new trace.

    Its base is empty: what happens to be under way in this task has no part in it.
    """
    found = _PROPAGATOR.extract({TRACEPARENT: header} if header else {}, Context())
    if trace.get_current_span(found).get_span_context().is_valid or _records():
        return found
    fresh = SpanContext(
        secrets.randbits(128) or 1, secrets.randbits(64) or 1, is_remote=False, trace_flags=TraceFlags(1)
    )
    return trace.set_span_in_context(NonRecordingSpan(fresh), Context())


def _records() -> bool:
    """Whether spans are recorded here, so that a trace without a parent gets its ids from its first span."""
    return not isinstance(trace.get_tracer_provider(), trace.ProxyTracerProvider)


@contextmanager
def span(
    name: str,
    attributes: Attributes | None = None,
    *,
    kind: SpanKind = SpanKind.INTERNAL,
    parent: Context | None = None,
) -> Iterator[Span]:
    """A span for the length of the block, current within it; of `parent`, or of the span that is current.

    An exception that leaves the block marks it as failed, and goes on.
    """
    with _TRACER.start_as_current_span(name, context=parent, kind=kind, attributes=attributes) as current:
        yield current


def traceparent() -> str | None:
    """Header value that makes the current span the parent of what comes next; None outside of any trace."""
    carrier: dict[str, str] = {}
    _PROPAGATOR.inject(carrier)
    return carrier.get(TRACEPARENT)


def trace_id() -> str | None:
    """The current trace, 32 hex digits; None outside of any."""
    found = trace.get_current_span().get_span_context()
    return f"{found.trace_id:032x}" if found.is_valid else None
