"""What the gateway refuses, as exceptions: one class for each kind of problem, by the `code` of the document."""

from collections.abc import Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any

import httpx

from imagepipe_client.documents import Image

PROBLEM_JSON = "application/problem+json"


class ImagepipeError(Exception):
    """Base of all errors of this package."""


class ConnectionFailed(ImagepipeError):  # noqa: N818 - named as httpx names its own
    """No response came, also after retries. The cause is the httpx.TransportError."""

    retry_after: float | None = None


class WaitTimedOut(ImagepipeError):  # noqa: N818
    """The image is still being processed. `image` is its last status document."""

    def __init__(self, image: Image, seconds: float) -> None:
        super().__init__(f"image {image.id} is still being processed after {seconds:g} s")
        self.image = image


class Problem(ImagepipeError):  # noqa: N818 - the word of RFC 9457
    """The gateway answered with an error. Subclasses name the kind; `code` is stable and names the exact cause.

    `extra` has the further members of the problem document. `code` is `http_<status>` for an answer without one, such
    as that of a proxy.
    """

    def __init__(
        self,
        code: str,
        status: int,
        title: str,
        detail: str,
        *,
        extra: Mapping[str, Any] | None = None,
        retry_after: float | None = None,
        request_id: str | None = None,
    ) -> None:
        super().__init__(f"{title} ({status}): {detail}")
        self.code = code
        self.status = status
        self.title = title
        self.detail = detail
        self.extra = dict(extra or {})
        self.retry_after = retry_after
        """Seconds after which the gateway asks the client to come again."""
        self.request_id = request_id
        """Id of the request in the gateway's log."""

    @property
    def is_temporary(self) -> bool:
        """Whether the same request may succeed later. The client repeats such requests by itself."""
        return self.code in TEMPORARY_CODES or self.status in TEMPORARY_STATUSES


class InvalidRequest(Problem):
    """The request is wrong: a parameter, the owner, the form, or the Idempotency-Key."""


class FileRefused(Problem):
    """The file is not an image that the gateway accepts."""


class NotFound(Problem):
    """There is no such image, file, variant or page."""


class NotRendered(Problem):
    """The image has no variants yet (`variant_not_ready`), or never will (`render_failed`)."""


class Conflict(Problem):
    """Another request to the same thing was first."""


class PreconditionFailed(Problem):
    """The thing has changed since the client read it."""


class Unavailable(Problem):
    """The gateway has no capacity, or an engine is unavailable. The client has repeated the request in vain."""


class InternalError(Problem):
    """A bug of the gateway."""


KINDS: dict[type[Problem], tuple[str, ...]] = {
    InvalidRequest: (
        "bad_request", "invalid_owner", "invalid_paging", "invalid_cursor", "malformed_form", "no_file",
        "too_many_files", "reserved_owner", "incoming_mismatch", "duration_refused", "method_not_allowed",
        "not_multipart", "body_too_large", "headers_too_large", "key_reused", "range_not_satisfiable",
    ),
    FileRefused: (
        "file_too_large", "unsupported_format", "empty", "truncated", "corrupt", "too_many_pixels", "too_wide",
        "none_accepted",
    ),
    NotFound: (
        "not_found", "no_such_media", "no_such_variant", "no_such_incoming", "no_such_page", "credentials_disabled",
    ),
    NotRendered: ("variant_not_ready", "render_failed"),
    Conflict: ("in_flight", "incoming_changed"),
    PreconditionFailed: ("precondition_failed",),
    Unavailable: ("too_slow", "saturated", "too_many_listeners", "unavailable", "unknown_outcome"),
    InternalError: ("internal",),
}  # fmt: skip
BY_CODE = {code: kind for kind, codes in KINDS.items() for code in codes}
BY_STATUS: dict[int, type[Problem]] = {404: NotFound, 409: Conflict, 412: PreconditionFailed, 500: InternalError}
"""The class for a code that this release does not know, or for an answer that is no problem document."""
TEMPORARY_CODES = frozenset((*KINDS[Unavailable], "in_flight"))
TEMPORARY_STATUSES = frozenset((408, 429, 502, 503, 504))


def kind_of(code: str, status: int) -> type[Problem]:
    """The class of a problem."""
    if known := BY_CODE.get(code):
        return known
    if status in TEMPORARY_STATUSES:
        return Unavailable
    return BY_STATUS.get(status) or (InvalidRequest if 400 <= status < 500 else Problem)


def problem_from(document: Mapping[str, Any], headers: Mapping[str, str] | None = None) -> Problem:
    """The exception of a problem document."""
    headers = headers or {}
    known = {"type", "title", "status", "detail", "code"}
    code, status = str(document.get("code", "")), int(document["status"])
    return kind_of(code, status)(
        code, status, str(document.get("title", "")), str(document.get("detail", "")),
        extra={name: value for name, value in document.items() if name not in known},
        retry_after=seconds_until(headers.get("Retry-After")),
        request_id=headers.get("X-Request-ID"),
    )  # fmt: skip


def problem_of(response: httpx.Response) -> Problem:
    """The exception of a response that is no success. Its body must have been read."""
    if response.headers.get("Content-Type", "").startswith(PROBLEM_JSON):
        return problem_from({"status": response.status_code} | response.json(), response.headers)
    # The body of a proxy or of the object store is a page for people; its beginning says most.
    document = {
        "code": f"http_{response.status_code}",
        "status": response.status_code,
        "title": response.reason_phrase or "HTTP error",
        "detail": response.text[:200] or f"{response.request.method} {response.request.url} failed",
    }
    return problem_from(document, response.headers)


def seconds_until(retry_after: str | None) -> float | None:
    """Seconds of a Retry-After header, which may also hold a date. None if there is none, or if it is invalid."""
    if retry_after is None:
        return None
    if retry_after.strip().isdecimal():
        return float(retry_after)
    try:
        return max(0.0, (parsedate_to_datetime(retry_after) - datetime.now(UTC)).total_seconds())
    except (TypeError, ValueError):
        return None
