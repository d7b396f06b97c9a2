"""Bytes out of the bucket over HTTP: conditional requests, ranges, and headers that keep uploads harmless."""

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
from shared.contract.keys import EXTENSIONS
from shared.ports import ObjectInfo, ObjectStore

SAFETY_HEADERS = {
    "X-Content-Type-Options": "nosniff",
    # Opened as a page of its own, an upload can run nothing and load nothing.
    "Content-Security-Policy": "sandbox; default-src 'none'",
    # Images are there to be shown on other sites, in <img> under COEP and on a canvas. No cookie decides anything here.
    "Access-Control-Allow-Origin": "*",
    "Cross-Origin-Resource-Policy": "cross-origin",
}
DECISIVE = ("range", "if-match", "if-none-match", "if-modified-since")
"""Headers that may ask for less than the whole object; `If-Range` means nothing without a range."""
MAX_NAME = 128
"""Characters of a file name in a header; in UTF-8 and percent signs that is at most 1.5 kB."""


@dataclass(frozen=True)
class Decision:
    """What a request gets of an object: 200 whole, 206 bytes `start` to `end` (inclusive), or 304 nothing."""

    status: int
    start: int
    end: int


def decide(headers: Mapping[str, str], info: ObjectInfo) -> Decision:
    """Weigh the conditions and the range of a GET or HEAD in RFC 9110's order.

    `headers` has lower-case names or ignores case. Several ranges, or one that makes no sense, get the whole object.
    Raises Problem `precondition_failed` and `range_not_satisfiable`.
    """
    required = headers.get("if-match")
    if required is not None and not (wanted := parse_etags(required)).star_tag and not wanted.is_strong(info.etag):
        raise Problem("precondition_failed", "the file is not the one that If-Match names")
    modified = is_resource_modified(
        http_if_none_match=headers.get("if-none-match"),
        http_if_modified_since=headers.get("if-modified-since"),
        etag=quote_etag(info.etag),
        last_modified=info.modified,
    )
    if not modified:
        return Decision(304, 0, -1)
    span = _span(headers, info)
    return Decision(206, *span) if span else Decision(200, 0, info.size - 1)


def _span(headers: Mapping[str, str], info: ObjectInfo) -> tuple[int, int] | None:
    """First and last byte of the single range that is asked for and still fits the object; None: all of it."""
    asked = parse_range_header(headers.get("range"))
    if asked is None or asked.units != "bytes" or len(asked.ranges) != 1 or not _still_same(headers, info):
        return None
    start, stop = asked.ranges[0]
    if start < 0:
        # The last bytes; more of them than there are means all.
        start = max(0, info.size + start)
    if start >= info.size:
        raise Problem(
            "range_not_satisfiable",
            f"the file has {info.size} bytes",
            headers={"Content-Range": f"bytes */{info.size}"},
        )
    return start, min(stop or info.size, info.size) - 1


def _still_same(headers: Mapping[str, str], info: ObjectInfo) -> bool:
    """RFC 9110, 13.1.5: If-Range must be the strong ETag or the exact date."""
    condition = headers.get("if-range")
    return condition is None or condition in (quote_etag(info.etag), http_date(info.modified))


async def respond(request: Request, store: ObjectStore, served: Served, headers: Mapping[str, str]) -> Response:
    """The response to a GET or HEAD of this object. Raises NotFound, Unavailable, and what `decide` raises."""
    if request.method == "GET" and not any(name in request.headers for name in DECISIVE):
        # What a CDN asks for: the whole object, in one call.
        opened = await store.open(served.path)
        whole = Decision(200, 0, opened.info.size - 1)
        return _Streamed(opened.body, 200, _headers(served, opened.info, whole, headers))
    info = await store.head(served.path)
    decision = decide(request.headers, info)
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
    """Closes the object's stream when the client hangs up, too; else its connection would wait for the collector."""

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
    """`inline` with the name in RFC 6266's two forms, harmless whatever the uploader called the file.

    It is one path segment without control or direction marks, and ends as the type does: what came as `page.html` is
    not saved as a page.
    """
    name = _safe_name(file_name, EXTENSIONS[content_type])
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
