"""Configures structured logs: one JSON object in each line, or lines for people."""

import json
import logging
import sys
import time
from datetime import UTC, datetime
from functools import lru_cache
from types import FrameType
from typing import TextIO

import orjson
import structlog

from shared.observability import tracing
from shared.settings import Settings

_TRACEBACKS = structlog.tracebacks.ExceptionDictTransformer(show_locals=False)
"""Local variables are left out: they contain settings with secrets, and megabytes of images."""
_ENCODER = json.JSONEncoder(default=repr)
"""Made once: `json.dumps` with options makes an encoder for each line."""


def as_json(event: structlog.typing.EventDict, **_: object) -> str:
    """A log line. orjson refuses what JSON or UTF-8 cannot express, which the standard library writes anyway."""
    try:
        return orjson.dumps(event, default=repr).decode()
    except TypeError:
        return _ENCODER.encode(event)


def configure_logging(settings: Settings, service: str) -> None:
    """Write the logs of structlog and of the standard library to standard output, in the format LOG_FORMAT.

    Events of structlog do not pass through the standard library. That took two thirds of the time of a log line.
    """
    shared: list[structlog.typing.Processor] = [
        structlog.contextvars.merge_contextvars,
        with_trace,
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        with_timestamp,
        structlog.processors.ExceptionRenderer(_TRACEBACKS) if settings.log_format == "json" else _unchanged,
    ]
    renderer: structlog.typing.Processor = (
        structlog.processors.JSONRenderer(serializer=as_json)
        if settings.log_format == "json"
        else structlog.dev.ConsoleRenderer(
            colors=sys.stdout.isatty(), exception_formatter=structlog.dev.plain_traceback
        )
    )
    structlog.configure(
        processors=[*shared, renderer],
        wrapper_class=structlog.make_filtering_bound_logger(settings.log_level),
        logger_factory=lambda *names: NamedLogger(sys.stdout, names[0] if names else _calling_module()),
        cache_logger_on_first_use=True,
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
    # While the collector is unavailable, OpenTelemetry logs a warning for each retry of each batch.
    logging.getLogger("opentelemetry").setLevel(logging.ERROR)
    # Cassandra sends a warning against USE with every prepared statement, but a session needs USE to set its keyspace.
    logging.getLogger("cassandra.protocol").setLevel(logging.ERROR)
    structlog.contextvars.bind_contextvars(service=service)


class NamedLogger(structlog.WriteLogger):
    """Writes lines to a stream. `name` is the field `logger` of each line."""

    def __init__(self, stream: TextIO, name: str) -> None:
        super().__init__(stream)
        self.name = name


def _calling_module() -> str:
    """Name of the module that logs first with a logger without a name: that of the first frame outside of structlog."""
    frame: FrameType | None = sys._getframe()
    while frame is not None:
        module: str = frame.f_globals["__name__"]
        if module != __name__ and not module.startswith("structlog."):
            return module
        frame = frame.f_back
    return __name__


def with_trace(_logger: object, _method: str, event: structlog.typing.EventDict) -> structlog.typing.EventDict:
    """Add the trace id to a log line. It is the same in all services for one request of a client."""
    if trace_id := tracing.trace_id():
        event.setdefault("trace_id", trace_id)
    return event


def with_timestamp(_logger: object, _method: str, event: structlog.typing.EventDict) -> structlog.typing.EventDict:
    """Add the time in UTC, in microseconds. structlog's own processor formats the date anew for each line."""
    seconds, microseconds = divmod(time.time_ns() // 1000, 1_000_000)
    event["timestamp"] = f"{_date_and_time(seconds)}.{microseconds:06}Z"
    return event


@lru_cache(1)
def _date_and_time(seconds: int) -> str:
    return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%dT%H:%M:%S}"


def _unchanged(_logger: object, _method: str, event: structlog.typing.EventDict) -> structlog.typing.EventDict:
    return event
