"""ASGI middleware around every request: request id, span, log line, metrics, and headers of every response."""

import re
import time
from dataclasses import dataclass

import structlog
from opentelemetry.trace import Span, SpanKind, StatusCode
from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from shared.contract.keys import new_id
from shared.observability import metrics, tracing

log = structlog.get_logger("gateway.access")

REQUEST_ID = "X-Request-ID"
CLIENT_CLOSED = 499
"""The status that nginx logs for a client that disconnected before the response. Only in logs and metrics."""
METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
"""Methods that are metric labels. A client can send any word as a method, and each label is a time series."""
_ACCEPTABLE_ID = re.compile(r"[A-Za-z0-9._:/+=@-]{1,128}")


def request_id_of(header: str | None) -> str:
    """The request id of the client if it is safe in logs and headers; otherwise a new one."""
    return header if header and _ACCEPTABLE_ID.fullmatch(header) else str(new_id())


@dataclass
class _Exchange:
    """The status of a response, and the bytes of the two bodies. A stream of events ends when its client leaves."""

    status: int = CLIENT_CLOSED
    is_event_stream: bool = False
    received: int = 0
    sent: int = 0


class AccessLog:
    """The middleware. Handlers add `owner` and `image_id` to the log line with structlog's `bind_contextvars`."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one ASGI connection."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        request_id = request_id_of(headers.get(REQUEST_ID))
        exchange = _Exchange()

        async def count_received() -> Message:
            message = await receive()
            exchange.received += len(message.get("body", b""))
            return message

        async def complete_and_count(message: Message) -> None:
            if message["type"] == "http.response.start":
                exchange.status = message["status"]
                response_headers = MutableHeaders(scope=message)
                response_headers[REQUEST_ID] = request_id
                exchange.is_event_stream = response_headers.get("Content-Type", "").startswith("text/event-stream")
                response_headers.setdefault("X-Content-Type-Options", "nosniff")
            exchange.sent += len(message.get("body", b""))
            await send(message)

        started = time.perf_counter()
        method = scope["method"] if scope["method"] in METHODS else "other"
        parent = tracing.continued(headers.get(tracing.TRACEPARENT))
        with (
            structlog.contextvars.bound_contextvars(request_id=request_id),
            tracing.span(method, kind=SpanKind.SERVER, parent=parent) as span,
            metrics.REQUESTS_IN_FLIGHT.track_inprogress(),
        ):
            try:
                await self._app(scope, count_received, complete_and_count)
            finally:
                # The template of the route, not the path: each id in a path would make a time series.
                route = getattr(scope.get("route"), "path", "none")
                _count(method, route, exchange, time.perf_counter() - started)
                _describe(span, method, route, scope, exchange)
                _log(scope, exchange, time.perf_counter() - started)
                structlog.contextvars.unbind_contextvars("owner", "image_id")


def _count(method: str, route: str, exchange: _Exchange, seconds: float) -> None:
    metrics.REQUESTS.labels(method, route, str(exchange.status)).inc()
    if not exchange.is_event_stream:
        metrics.REQUEST_SECONDS.labels(method, route).observe(seconds)
    metrics.RECEIVED_BYTES.labels(route).inc(exchange.received)
    metrics.SENT_BYTES.labels(route).inc(exchange.sent)


def _describe(span: Span, method: str, route: str, scope: Scope, exchange: _Exchange) -> None:
    span.update_name(f"{method} {route}")
    span.set_attribute("http.request.method", method)
    span.set_attribute("http.route", route)
    span.set_attribute("url.path", scope["path"])
    span.set_attribute("http.response.status_code", exchange.status)
    if exchange.status >= 500:
        span.set_status(StatusCode.ERROR)


def _log(scope: Scope, exchange: _Exchange, seconds: float) -> None:
    path_ids = {name: str(value) for name, value in scope.get("path_params", {}).items() if name == "image_id"}
    bound = structlog.contextvars.get_contextvars()
    log.info(
        "request",
        method=scope["method"],
        path=scope["path"],
        status=exchange.status,
        duration_ms=round(seconds * 1000, 2),
        bytes_in=exchange.received,
        bytes_out=exchange.sent,
        client=scope["client"][0] if scope.get("client") else None,
        **{name: value for name, value in path_ids.items() if name not in bound},
    )
