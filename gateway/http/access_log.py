"""ASGI middleware around every request: request id, span, log line, metrics, and headers of every response."""

import re
import time
from functools import cache
from typing import NamedTuple

import structlog
import uuid_utils
from opentelemetry.trace import Span, SpanKind, StatusCode
from prometheus_client import Counter, Histogram
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from shared.observability import metrics, tracing

log = structlog.get_logger("gateway.access")

REQUEST_ID = b"x-request-id"
TRACEPARENT = tracing.TRACEPARENT.encode()
CLIENT_CLOSED = 499
"""The status that nginx logs for a client that disconnected before the response. Only in logs and metrics."""
METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
"""Methods that are metric labels. A client can send any word as a method, and each label is a time series."""
_ACCEPTABLE_ID = re.compile(r"[A-Za-z0-9._:/+=@-]{1,128}")


def request_id_of(header: str) -> str:
    """The request id of the client if it is safe in logs and headers; otherwise a new one."""
    return header if _ACCEPTABLE_ID.fullmatch(header) else str(uuid_utils.uuid7())


class _Exchange:
    """A request and its response: the status, and the bytes of the two bodies.

    A stream of events ends when its client leaves, so its duration is no response time.
    """

    def __init__(self, request_id: str, receive: Receive, send: Send) -> None:
        self.status = CLIENT_CLOSED
        self.is_event_stream = False
        self.received = 0
        self.sent = 0
        self._request_id = request_id.encode()
        self._receive = receive
        self._send = send

    async def receive(self) -> Message:
        """Receive a message of the request and count its bytes."""
        message = await self._receive()
        self.received += len(message.get("body", b""))
        return message

    async def send(self, message: Message) -> None:
        """Count the bytes of a message of the response, complete its headers, and send it."""
        if message["type"] == "http.response.start":
            self.status = message["status"]
            message["headers"] = self._completed(message["headers"])
        else:
            self.sent += len(message.get("body", b""))
        await self._send(message)

    def _completed(self, headers: list[tuple[bytes, bytes]]) -> list[tuple[bytes, bytes]]:
        given = dict(headers)
        self.is_event_stream = given.get(b"content-type", b"").startswith(b"text/event-stream")
        nosniff = [] if b"x-content-type-options" in given else [(b"x-content-type-options", b"nosniff")]
        # A response may serve several requests, so its own list stays as it is.
        return [*headers, (REQUEST_ID, self._request_id), *nosniff]


class AccessLog:
    """The middleware. Handlers add `owner` and `image_id` to the log line with structlog's `bind_contextvars`."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one ASGI connection."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        # If a client repeats a header, the first one counts.
        headers = dict(reversed(scope["headers"]))
        request_id = request_id_of(headers.get(REQUEST_ID, b"").decode("latin-1"))
        exchange = _Exchange(request_id, receive, send)
        started = time.perf_counter()
        method = scope["method"] if scope["method"] in METHODS else "other"
        parent = tracing.continued(headers.get(TRACEPARENT, b"").decode("latin-1"))
        bound = structlog.contextvars.bind_contextvars(request_id=request_id)
        with (
            tracing.span(method, kind=SpanKind.SERVER, parent=parent) as span,
            metrics.REQUESTS_IN_FLIGHT.track_inprogress(),
        ):
            try:
                await self._app(scope, exchange.receive, exchange.send)
            finally:
                seconds = time.perf_counter() - started
                # The template of the route, not the path: each id in a path would make a time series.
                route = getattr(scope.get("route"), "path", "none")
                _count(method, route, exchange, seconds)
                if span.is_recording():
                    _describe(span, method, route, scope, exchange)
                _log(scope, exchange, seconds)
                structlog.contextvars.unbind_contextvars("owner", "image_id")
                structlog.contextvars.reset_contextvars(**bound)


class _Counters(NamedTuple):
    """The counters that a request changes."""

    requests: Counter
    received: Counter
    sent: Counter


# Finding a time series by its labels takes longer than changing it. There are few, so they stay here.


@cache
def _counters(method: str, route: str, status: int) -> _Counters:
    return _Counters(
        metrics.REQUESTS.labels(method, route, str(status)),
        metrics.RECEIVED_BYTES.labels(route),
        metrics.SENT_BYTES.labels(route),
    )


@cache
def _durations(method: str, route: str) -> Histogram:
    return metrics.REQUEST_SECONDS.labels(method, route)


def _count(method: str, route: str, exchange: _Exchange, seconds: float) -> None:
    counters = _counters(method, route, exchange.status)
    counters.requests.inc()
    counters.received.inc(exchange.received)
    counters.sent.inc(exchange.sent)
    if not exchange.is_event_stream:
        _durations(method, route).observe(seconds)


def _describe(span: Span, method: str, route: str, scope: Scope, exchange: _Exchange) -> None:
    span.update_name(f"{method} {route}")
    span.set_attribute("http.request.method", method)
    span.set_attribute("http.route", route)
    span.set_attribute("url.path", scope["path"])
    span.set_attribute("http.response.status_code", exchange.status)
    if exchange.status >= 500:
        span.set_status(StatusCode.ERROR)


def _log(scope: Scope, exchange: _Exchange, seconds: float) -> None:
    fields = {}
    if "image_id" in scope.get("path_params", {}) and "image_id" not in structlog.contextvars.get_contextvars():
        fields["image_id"] = str(scope["path_params"]["image_id"])
    log.info(
        "request",
        method=scope["method"],
        path=scope["path"],
        status=exchange.status,
        duration_ms=round(seconds * 1000, 2),
        bytes_in=exchange.received,
        bytes_out=exchange.sent,
        client=scope["client"][0] if scope.get("client") else None,
        **fields,
    )
