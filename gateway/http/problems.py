"""The problems of the API (RFC 9457): one type per cause. The page `/problems/{code}` explains each."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import structlog

from shared.errors import Unavailable, UnknownOutcome
from shared.observability.metrics import UNAVAILABLE

log = structlog.get_logger()

PROBLEM_JSON = "application/problem+json"


@dataclass(frozen=True)
class ProblemType:
    """A cause. `explanation` says what happened and what the client can do."""

    status: int
    title: str
    explanation: str


class Problem(Exception):  # noqa: N818 - the RFC's word
    """Ends a request with a problem document. `code` is a key of PROBLEM_TYPES, `extra` are further members."""

    def __init__(self, code: str, detail: str, *, headers: Mapping[str, str] | None = None, **extra: Any) -> None:
        super().__init__(detail)
        self.code = code
        self.detail = detail
        self.headers = dict(headers or {})
        self.extra = extra

    @property
    def status(self) -> int:
        """HTTP status of the response."""
        return PROBLEM_TYPES[self.code].status

    def document(self, base_url: str) -> dict[str, Any]:
        """The RFC 9457 document. `code` is the last segment of `type` and does not depend on the deployment's URL."""
        kind = PROBLEM_TYPES[self.code]
        return {
            "type": f"{base_url}/problems/{self.code}",
            "title": kind.title,
            "status": kind.status,
            "detail": self.detail,
            "code": self.code,
            **self.extra,
        }


RETRY_AFTER = {"Retry-After": "5"}
"""A Kafka leader election takes 3 to 11 s; a restart of an engine takes about as long."""


def unavailable(error: Unavailable, **extra: Any) -> Problem:
    """The problem of an unavailable engine. The error's own text may name hosts, so it is only logged."""
    UNAVAILABLE.labels(error.engine).inc()
    log.warning("engine_unavailable", engine=error.engine, error=error.detail)
    if isinstance(error, UnknownOutcome):
        return Problem("unknown_outcome", f"{error.engine} did not respond in time", headers=RETRY_AFTER, **extra)
    return Problem("unavailable", f"{error.engine} is unavailable", headers=RETRY_AFTER, **extra)


PROBLEM_TYPES: dict[str, ProblemType] = {
    "bad_request": ProblemType(
        400, "Invalid request", "A part of the request is missing or invalid; `detail` says which."
    ),
    "invalid_owner": ProblemType(
        400,
        "Invalid owner",
        "Select one owner: send `owner_type` and `owner_id`, or the shorthand `<type>_id=<id>`. The type must match "
        "`[a-z][a-z0-9_]{0,31}`. The id must have 1 to 128 characters and no control characters.",
    ),
    "invalid_paging": ProblemType(
        400,
        "Invalid limit or offset",
        "`limit` must be an integer from 1 to 500, `offset` an integer from 0 to 1,000,000. Send each of them at most "
        "once. Send either `offset` or `cursor`, not both.",
    ),
    "invalid_cursor": ProblemType(
        400,
        "Invalid cursor",
        "A cursor is valid only for the list that returned it, with the same owner filter. Take the URL of the next "
        "page from the header `Link` and do not change it.",
    ),
    "malformed_form": ProblemType(
        400,
        "Malformed multipart form",
        "The body is not the multipart form that its Content-Type announces, or it ends before the last boundary.",
    ),
    "no_file": ProblemType(400, "No file in the form", "Send the file in the multipart field `image`."),
    "too_many_files": ProblemType(
        400, "Too many files", "The form has more files than this request may have; `detail` says how many it may have."
    ),
    "reserved_owner": ProblemType(
        400,
        "Reserved owner type",
        "The owner type `image` is reserved for images that were uploaded without an owner. Select such an image by "
        "its id.",
    ),
    "incoming_mismatch": ProblemType(
        400,
        "Key of another owner",
        "The key of an incoming object must start with the `prefix` that POST /credentials returned for this owner.",
    ),
    "duration_refused": ProblemType(
        400,
        "Duration not allowed",
        "Temporary keys cannot be valid for this duration. `detail` has the limits, or the object store's message.",
    ),
    "not_found": ProblemType(
        404, "Image not found", "There is no image with this id or URL. It may have been deleted."
    ),
    "no_such_media": ProblemType(
        404,
        "File not found",
        "There is no original and no variant under this path. The image may have been deleted.",
    ),
    "no_such_variant": ProblemType(
        404, "Unknown variant", "The image has no variant with this name; `detail` has the names of its variants."
    ),
    "variant_not_ready": ProblemType(
        404,
        "Variant not ready",
        "The image is still being processed. Repeat the request after `Retry-After`. The original is available.",
    ),
    "render_failed": ProblemType(
        404,
        "Rendering failed",
        "The image could not be rendered, so it has no variants; `error` has the reason. The original is available.",
    ),
    "no_such_page": ProblemType(404, "Unknown path", "The API has nothing under this path. /docs describes the API."),
    "no_such_incoming": ProblemType(
        404,
        "Incoming object not found",
        "There is no object with this key. The store deletes incoming objects after one day.",
    ),
    "credentials_disabled": ProblemType(
        404,
        "Temporary keys are disabled",
        "This deployment issues no temporary keys (the setting CREDENTIALS_ENABLED is off). Upload the file instead.",
    ),
    "method_not_allowed": ProblemType(
        405, "Method not allowed", "The header `Allow` has the methods that this path supports."
    ),
    "too_slow": ProblemType(
        408,
        "Request too slow",
        "The client sent nothing for too long, or it sent less than the minimum rate. Repeat the request.",
    ),
    "in_flight": ProblemType(
        409,
        "Request in progress",
        "Another request with the same Idempotency-Key, for the same incoming object, or to replace all images of the "
        "same owner is still in progress. Repeat this request after `Retry-After`. With the same key, or for the same "
        "object, you get the response of that request.",
    ),
    "incoming_changed": ProblemType(
        409,
        "Incoming object changed",
        "The incoming object was overwritten or deleted while the gateway read it. Repeat the request.",
    ),
    "precondition_failed": ProblemType(
        412,
        "Precondition failed",
        "The request has `If-Match`. Either it is for a file whose ETag is not in it. Or it would replace or delete an "
        "image whose version is not in it, because another request has replaced it: read the status document again.",
    ),
    "file_too_large": ProblemType(
        413, "File too large", "The file has more bytes than the limit in `detail`. The file was not stored."
    ),
    "body_too_large": ProblemType(
        413, "Request body too large", "The body has more bytes, parts or header lines than the gateway accepts."
    ),
    "not_multipart": ProblemType(
        415, "Not a multipart form", "Send `multipart/form-data` with the file in the field `image`."
    ),
    "unsupported_format": ProblemType(
        415,
        "Unsupported image format",
        "The content of the file is not PNG, JPEG or WebP. The extension of its name does not matter.",
    ),
    "headers_too_large": ProblemType(
        431, "Request headers too large", "The request line and the headers have more bytes than the limit in `detail`."
    ),
    "range_not_satisfiable": ProblemType(
        416, "Range not satisfiable", "The range starts after the end of the file; `Content-Range` has the file's size."
    ),
    "empty": ProblemType(422, "Empty file", "The file has no bytes."),
    "truncated": ProblemType(
        422, "Truncated image", "The file ends before the end of the image. Upload the complete file."
    ),
    "corrupt": ProblemType(422, "Corrupt image", "The structure of the file is invalid."),
    "too_many_pixels": ProblemType(
        422, "Too many pixels", "The image has more pixels than the limit in `detail`. Upload a smaller image."
    ),
    "too_wide": ProblemType(
        422, "Image too wide or too high", "The width or the height is above the limit in `detail`, which WebP sets."
    ),
    "none_accepted": ProblemType(
        422, "No file accepted", "The gateway refused every file; `images` has the problem of each, in order."
    ),
    "key_reused": ProblemType(
        422,
        "Idempotency-Key already used",
        "A request with other fields or files has used this Idempotency-Key within the last day. Use a new key for "
        "each new request.",
    ),
    "saturated": ProblemType(
        429,
        "Too many uploads",
        "The gateway has no capacity for more uploads, or none for more uploads from your address: it keeps a part for "
        "other addresses. Repeat the request after `Retry-After`. If `detail` names your address, have fewer uploads "
        "at the same time.",
    ),
    "too_many_listeners": ProblemType(
        429,
        "Too many listeners",
        "The gateway serves as many streams of live events as it may (MAX_EVENT_LISTENERS). Connect again after "
        "`Retry-After`.",
    ),
    "internal": ProblemType(
        500,
        "Internal error",
        "This is a bug in imagepipe. The log of the gateway has the details under the `X-Request-ID` of the response.",
    ),
    "unavailable": ProblemType(
        503,
        "Service unavailable",
        "Kafka, Cassandra or the object store is unavailable. Repeat the request after `Retry-After`.",
    ),
    "unknown_outcome": ProblemType(
        503,
        "Unknown outcome",
        "Kafka did not confirm the command in time, so it may or may not take effect. Repeat the request. With the "
        "same Idempotency-Key it never takes effect twice.",
    ),
}
