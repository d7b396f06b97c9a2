"""Structured logs: one JSON object a line, or readable lines on a terminal."""

import logging
import sys

import structlog

from shared.observability import tracing
from shared.settings import Settings

_TRACEBACKS = structlog.tracebacks.ExceptionDictTransformer(show_locals=False)
"""Without local variables: these hold settings with their secrets, and megabytes of images."""


def configure_logging(settings: Settings, service: str) -> None:
    """Send structlog and the standard library's logs to standard output in the format that the settings name."""
    shared: list[structlog.typing.Processor] = [
        structlog.contextvars.merge_contextvars,
        with_trace,
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.ExceptionRenderer(_TRACEBACKS) if settings.log_format == "json" else _unchanged,
    ]
    structlog.configure(
        processors=[*shared, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        logger_factory=structlog.stdlib.LoggerFactory(),
        cache_logger_on_first_use=True,
    )
    renderer: structlog.typing.Processor = (
        structlog.processors.JSONRenderer()
        if settings.log_format == "json"
        else structlog.dev.ConsoleRenderer(
            colors=sys.stdout.isatty(), exception_formatter=structlog.dev.plain_traceback
        )
    )
    handler = logging.StreamHandler(sys.stdout)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, renderer],
        )
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(settings.log_level)
    for noisy in ("aiokafka", "cassandra", "botocore", "urllib3", "boto3"):
        logging.getLogger(noisy).setLevel(max(logging.WARNING, root.level))
    # Each retry of each batch is a warning, for as long as a collector is away.
    logging.getLogger("opentelemetry").setLevel(logging.ERROR)
    # The server advises against USE with every statement that is prepared; it is how a session gets its keyspace.
    logging.getLogger("cassandra.protocol").setLevel(logging.ERROR)
    structlog.contextvars.bind_contextvars(service=service)


def with_trace(_logger: object, _method: str, event: structlog.typing.EventDict) -> structlog.typing.EventDict:
    """The trace that the line belongs to: the same in all services for one request of a client."""
    if trace_id := tracing.trace_id():
        event.setdefault("trace_id", trace_id)
    return event


def _unchanged(_logger: object, _method: str, event: structlog.typing.EventDict) -> structlog.typing.EventDict:
    return event
