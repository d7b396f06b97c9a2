"""A JSON document as clients get it: its body, its validator and its links, encoded once for all requests."""

from dataclasses import dataclass
from functools import cached_property

from starlette.requests import Request
from starlette.responses import Response
from werkzeug.http import quote_etag
from werkzeug.sansio.http import is_resource_modified

from gateway.http.cache_control import REVALIDATE


@dataclass(frozen=True)
class JsonDocument:
    """`etag` has no quotes. `next_url` is that of the next page, None on the last page and for a single image.

    `monitor_url` is the stream of all events that the document may lack. It is None until the gateway can read Kafka.
    """

    body: bytes
    etag: str
    next_url: str | None = None
    monitor_url: str | None = None

    def response(self, request: Request) -> Response:
        """The document, or 304 if the client's copy is current."""
        if not self._is_modified(request.headers.get("if-none-match")):
            return self._unchanged
        return self._head if request.method == "HEAD" else self._whole

    def _is_modified(self, if_none_match: str | None) -> bool:
        if if_none_match is None or if_none_match == self._quoted_etag:
            # Nearly all requests; the others have several ETags, a weak one, or that of another version.
            return if_none_match is None
        return is_resource_modified(http_if_none_match=if_none_match, etag=self._quoted_etag)

    @cached_property
    def _quoted_etag(self) -> str:
        return quote_etag(self.etag)

    @cached_property
    def _headers(self) -> dict[str, str]:
        return {"ETag": self._quoted_etag, "X-Content-Type-Options": "nosniff"} | REVALIDATE | self._links

    @cached_property
    def _links(self) -> dict[str, str]:
        """The header `Link`, if there is any."""
        urls = {"next": self.next_url, "monitor": self.monitor_url}
        links = [f'<{url}>; rel="{relation}"' for relation, url in urls.items() if url is not None]
        return {"Link": ", ".join(links)} if links else {}

    # A response has no state, so that one object serves all requests.

    @cached_property
    def _whole(self) -> Response:
        return Response(self.body, headers=self._headers, media_type="application/json")

    @cached_property
    def _head(self) -> Response:
        described = {"Content-Type": "application/json", "Content-Length": str(len(self.body))}
        return Response(headers=self._headers | described)

    @cached_property
    def _unchanged(self) -> Response:
        return Response(status_code=304, headers=self._headers)
