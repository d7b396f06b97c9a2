"""One gateway as the clients of a race reach it. A request without an answer is a result here, not an error."""

from dataclasses import dataclass
from typing import Any, Self

import httpx

TIMEOUT = 25.0
"""Seconds; longer than the gateway's own limit on a write to Kafka."""
ONE_REQUEST_EACH = httpx.Limits(max_keepalive_connections=0)
"""A killed gateway leaves broken connections behind. Without reuse, each missing answer is that of the request."""
PAST_THE_CACHES = {"Cache-Control": "no-cache"}


@dataclass(frozen=True)
class Answer:
    """The answer to a request. `status` is 0 if none arrived; then the outcome is unknown."""

    status: int
    body: Any = None

    @property
    def is_success(self) -> bool:
        """Whether the gateway has acknowledged the request."""
        return 200 <= self.status < 300


class Front:
    """A client of one gateway."""

    def __init__(self, base_url: str) -> None:
        self._http = httpx.AsyncClient(base_url=base_url, timeout=TIMEOUT, limits=ONE_REQUEST_EACH, trust_env=False)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._http.aclose()

    async def ask(self, method: str, path: str, *, fresh: bool = False, **options: Any) -> Answer:
        """Send one request, once. With `fresh` the gateway answers from the index, past its caches."""
        headers = {**options.pop("headers", {}), **(PAST_THE_CACHES if fresh else {})}
        try:
            answer = await self._http.request(method, path, headers=headers, **options)
        except httpx.TransportError:
            return Answer(0)
        is_json = "json" in answer.headers.get("content-type", "")
        return Answer(answer.status_code, answer.json() if is_json and answer.content else None)
