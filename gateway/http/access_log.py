"""Pure ASGI middleware around every request: its id, span, log line and metrics, headers of every answer."""

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
"""nginx's number for a client that went away before there was an answer; only in log and metrics."""
METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
"""Methods that are counted by name: a client may send any word as one, and each would be a time series."""
_ACCEPTABLE_ID = re.compile(r"[A-Za-z0-9._:/+=@-]{1,128}")


def request_id_of(header: str | None) -> str:
    """The caller's request id where it is harmless in logs and headers, else a fresh one."""
    return header if header and _ACCEPTABLE_ID.fullmatch(header) else str(new_id())


@dataclass
class _Exchange:
    """What is counted while a request is answered. Sizes in bytes of the bodies."""

    status: int = CLIENT_CLOSED
    received: int = 0
    sent: int = 0


class AccessLog:
    """The middleware. Handlers add `owner` and `image_id` to the line with structlog's `bind_contextvars`."""

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
                answer = MutableHeaders(scope=message)
                answer[REQUEST_ID] = request_id
                answer.setdefault("X-Content-Type-Options", "nosniff")
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
                # The template, not the path: ids would make a time series each.
                route = getattr(scope.get("route"), "path", "none")
                _count(method, route, exchange, time.perf_counter() - started)
                _describe(span, method, route, scope, exchange)
                _log(scope, exchange, time.perf_counter() - started)
                structlog.contextvars.unbind_contextvars("owner", "image_id")


def _count(method: str, route: str, exchange: _Exchange, seconds: float) -> None:
    metrics.REQUESTS.labels(method, route, str(exchange.status)).inc()
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
