"""What the sync and the async transport share: time-outs, and how a request becomes one of httpx."""

from collections.abc import AsyncIterator, Iterator

import httpx

from imagepipe_client.steps import Request

TIMEOUT = httpx.Timeout(60.0, connect=10.0)
"""The gateway answers an upload after S3 and Kafka have it, at most after about half a minute."""


def built(
    http: httpx.Client | httpx.AsyncClient,
    base_url: str,
    request: Request,
    content: Iterator[bytes] | AsyncIterator[bytes] | None,
    read_timeout: float | None = None,
) -> httpx.Request:
    """The request to the gateway at `base_url`, with the client's time-outs or another one for reading (seconds)."""
    timeout = http.timeout if read_timeout is None else httpx.Timeout(**http.timeout.as_dict() | {"read": read_timeout})
    return http.build_request(
        request.method, request.url(base_url), params=tuple(request.params) or None, headers=request.all_headers,
        content=content, timeout=timeout,
    )  # fmt: skip
