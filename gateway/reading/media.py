"""Sends objects of the bucket: conditional requests, ranges, and headers that make untrusted files harmless."""

import contextlib
import re
import unicodedata
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from urllib.parse import quote

from fastapi import Request, Response
from starlette.responses import StreamingResponse
from starlette.types import Send
from werkzeug.http import http_date, parse_etags, parse_range_header, quote_etag
from werkzeug.sansio.http import is_resource_modified

from gateway.http.problems import Problem
from gateway.reading.served import Served
from shared.contract.keys import EXTENSIONS, VARIANT_EXTENSIONS
from shared.ports import ObjectInfo, ObjectStore

SAFETY_HEADERS = {
    "X-Content-Type-Options": "nosniff",
    # A browser that opens the file as a page runs no script in it and loads nothing for it.
    "Content-Security-Policy": "sandbox; default-src 'none'",
    # Other sites may show images, also under COEP and on a canvas. This is safe: no response depends on a cookie.
    "Access-Control-Allow-Origin": "*",
    "Cross-Origin-Resource-Policy": "cross-origin",
}
DECISIVE = ("range", "if-match", "if-none-match", "if-modified-since")
"""Headers with which a client may ask for less than the whole object. `If-Range` has no meaning without `Range`."""
MAX_NAME = 128
"""Characters of a file name in a header. Percent-encoded UTF-8 makes at most 1.5 kB of them."""


@dataclass(frozen=True)
class Decision:
    """The part of an object that a request gets: all (200), bytes `start` to `end` inclusive (206), or none (304)."""

    status: int
    start: int
    end: int


def decide(method: str, headers: Mapping[str, str], info: ObjectInfo) -> Decision:
    """Evaluate the conditions and the range of a GET or HEAD, in the order of RFC 9110.

    `headers` has names in lower case, or ignores case. For several ranges, or an invalid one, the decision is the whole
    object. HEAD has no ranges (section 14.2). Raises Problem `precondition_failed` and `range_not_satisfiable`.
    """
    required = headers.get("if-match")
    if required is not None and not (wanted := parse_etags(required)).star_tag and not wanted.is_strong(info.etag):
        raise Problem("precondition_failed", "the ETag of the file is not in `If-Match`")
    modified = is_resource_modified(
        http_if_none_match=headers.get("if-none-match"),
        http_if_modified_since=headers.get("if-modified-since"),
        etag=quote_etag(info.etag),
        last_modified=info.modified,
    )
    if not modified:
        return Decision(304, 0, -1)
    span = _span(headers, info) if method == "GET" else None
    return Decision(206, *span) if span else Decision(200, 0, info.size - 1)


def _span(headers: Mapping[str, str], info: ObjectInfo) -> tuple[int, int] | None:
    """First and last byte of the range, if the client asks for one valid range; None for the whole object."""
    asked = parse_range_header(headers.get("range"))
    if asked is None or asked.units != "bytes" or len(asked.ranges) != 1 or not _still_same(headers, info):
        return None
    start, stop = asked.ranges[0]
    if start < 0:
        # A negative start means the last bytes. If the object has fewer bytes, it means all.
        start = max(0, info.size + start)
    if start >= info.size:
        raise Problem(
            "range_not_satisfiable",
            f"the file has {info.size} bytes",
            headers={"Content-Range": f"bytes */{info.size}"},
        )
    return start, min(stop or info.size, info.size) - 1


def _still_same(headers: Mapping[str, str], info: ObjectInfo) -> bool:
    """Whether `If-Range`, if there is one, is the strong ETag or the exact date (RFC 9110, section 13.1.5)."""
    condition = headers.get("if-range")
    return condition is None or condition in (quote_etag(info.etag), http_date(info.modified))


async def respond(request: Request, store: ObjectStore, served: Served, headers: Mapping[str, str]) -> Response:
    """The response to a GET or HEAD of this object. Raises NotFound, Unavailable, and what `decide` raises."""
    if request.method == "GET" and not any(name in request.headers for name in DECISIVE):
        # A CDN asks for the whole object. One call of the store is enough for that.
        opened = await store.open(served.path)
        whole = Decision(200, 0, opened.info.size - 1)
        return _Streamed(opened.body, 200, _headers(served, opened.info, whole, headers))
    info = await store.head(served.path)
    decision = decide(request.method, request.headers, info)
    everything = _headers(served, info, decision, headers)
    if decision.status == 304 or request.method == "HEAD":
        return Response(status_code=decision.status, headers=everything)
    last = decision.end if decision.status == 206 else None
    opened = await store.open(served.path, decision.start, last)
    return _Streamed(opened.body, decision.status, everything)


def _headers(served: Served, info: ObjectInfo, decision: Decision, headers: Mapping[str, str]) -> dict[str, str]:
    everything = {
        **SAFETY_HEADERS,
        "Accept-Ranges": "bytes",
        "ETag": quote_etag(info.etag),
        "Last-Modified": http_date(info.modified),
        **headers,
    }
    if decision.status == 304:
        return everything
    everything["Content-Type"] = served.content_type
    everything["Content-Disposition"] = content_disposition(served.file_name, served.content_type)
    everything["Content-Length"] = str(decision.end - decision.start + 1)
    if decision.status == 206:
        everything["Content-Range"] = f"bytes {decision.start}-{decision.end}/{info.size}"
    return everything


class _Streamed(StreamingResponse):
    """Closes the stream of the object also if the client disconnects.

    Otherwise the connection to the store would be in use until the garbage collector closes the stream.
    """

    def __init__(self, body: AsyncIterator[bytes], status: int, headers: Mapping[str, str]) -> None:
        super().__init__(body, status, headers)
        self._body = body

    async def stream_response(self, send: Send) -> None:
        async with contextlib.AsyncExitStack() as stack:
            close = getattr(self._body, "aclose", None)
            if close is not None:
                stack.push_async_callback(close)
            await super().stream_response(send)


def content_disposition(file_name: str, content_type: str) -> str:
    """The header's value: `inline` with the file name in the two forms of RFC 6266.

    The name is untrusted. It becomes one path segment without control characters and direction marks. Its extension
    becomes that of the content type, so that no browser saves an image named `page.html` as a page.
    """
    name = _safe_name(file_name, (EXTENSIONS | VARIANT_EXTENSIONS)[content_type])
    plain = unicodedata.normalize("NFKD", name).encode("ascii", "ignore").decode()
    plain = re.sub(r"[^A-Za-z0-9 ._()+-]", "_", plain)
    return f"inline; filename=\"{plain}\"; filename*=UTF-8''{quote(name, safe='')}"


def _safe_name(file_name: str, extension: str) -> str:
    # Categories C*: control, format (direction marks, joiners), surrogates, unassigned.
    visible = "".join(char for char in file_name if unicodedata.category(char)[0] != "C")
    name = re.sub(r'[/\\:*?"<>|]', "_", visible).strip(" .") or "image"
    accepted = (".jpg", ".jpeg") if extension == "jpg" else (f".{extension}",)
    if name.lower().endswith(accepted):
        stem, _, ending = name.rpartition(".")
    else:
        stem, ending = name, extension
    return f"{stem[:MAX_NAME]}.{ending}"
