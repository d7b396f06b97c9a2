"""Errors as RFC 9457 problem documents: one type per cause, each with a page of its own under `/problems`."""

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
    """A cause. `explanation` is for the documentation page: what happened and what the caller can do."""

    status: int
    title: str
    explanation: str


class Problem(Exception):  # noqa: N818 - the RFC's word
    """Ends a request with a problem document. `code` is a key of PROBLEM_TYPES."""

    def __init__(self, code: str, detail: str, *, headers: Mapping[str, str] | None = None, **extra: Any) -> None:
        super().__init__(detail)
        self.code = code
        self.detail = detail
        self.headers = dict(headers or {})
        self.extra = extra

    @property
    def status(self) -> int:
        """HTTP status of the cause."""
        return PROBLEM_TYPES[self.code].status

    def document(self, base_url: str) -> dict[str, Any]:
        """The RFC 9457 document; `code` is the last segment of `type`, stable whatever the deployment's URL."""
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
"""A leader election takes 3 to 11 s, a restarted engine about as long."""


def unavailable(error: Unavailable, **extra: Any) -> Problem:
    """The problem of an unavailable engine. The error's own text may name hosts, so it is only logged."""
    UNAVAILABLE.labels(error.engine).inc()
    log.warning("engine_unavailable", engine=error.engine, error=error.detail)
    if isinstance(error, UnknownOutcome):
        return Problem("unknown_outcome", f"{error.engine} did not respond in time", headers=RETRY_AFTER, **extra)
    return Problem("unavailable", f"{error.engine} is unavailable", headers=RETRY_AFTER, **extra)


PROBLEM_TYPES: dict[str, ProblemType] = {
    "bad_request": ProblemType(400, "Bad request", "The request's parameters do not fit; the detail names which."),
    "invalid_owner": ProblemType(
        400,
        "Owner not understood",
        "An owner is named by `owner_type` with `owner_id`, or by `<type>_id=<id>`, once. The type matches "
        "`[a-z][a-z0-9_]{0,31}`; the id has 1 to 128 characters and no control characters.",
    ),
    "invalid_paging": ProblemType(
        400,
        "Paging not understood",
        "`limit` is a whole number from 1 to 500, `offset` one from 0 to 1,000,000; `offset` and `cursor` exclude "
        "each other, and each is given at most once.",
    ),
    "invalid_cursor": ProblemType(
        400,
        "Cursor not understood",
        "A cursor is valid for the list (the same owner filter) whose `Link` header gave it. Follow that URL as it is.",
    ),
    "malformed_form": ProblemType(
        400,
        "Malformed multipart form",
        "The body is not the multipart form that its Content-Type announces, or it ends before its last boundary.",
    ),
    "no_file": ProblemType(400, "No file", "The form has no file. Send it in the multipart field `image`."),
    "too_many_files": ProblemType(
        400, "Too many files", "This call takes one file, or at most as many as the detail says."
    ),
    "reserved_owner": ProblemType(
        400,
        "Reserved owner type",
        "Owners of the type `image` are images that were uploaded without an owner. Address these by their id.",
    ),
    "incoming_mismatch": ProblemType(
        400,
        "Not this owner's key",
        "The key of an incoming object must start with the prefix that POST /credentials gave for the same owner.",
    ),
    "duration_refused": ProblemType(
        400,
        "Duration refused",
        "Temporary keys cannot live as long or as short as was asked for; the detail gives the limits, or what the "
        "object store said.",
    ),
    "not_found": ProblemType(404, "No such image", "There is no image with this id or URL, or it was deleted."),
    "no_such_media": ProblemType(
        404, "No such file", "There is no original or variant under this path, or its image was deleted."
    ),
    "no_such_variant": ProblemType(
        404, "No such variant", "The image has no variant of this name; the detail lists those that there are."
    ),
    "variant_not_ready": ProblemType(
        404,
        "Variant not ready",
        "The image is still being processed. Repeat after `Retry-After`; until then its original is served.",
    ),
    "render_failed": ProblemType(
        404,
        "Rendering failed",
        "The image could not be rendered, so it has no variants; `error` says why. Its original is served.",
    ),
    "no_such_page": ProblemType(
        404, "No such page", "There is nothing under this path. The API is described at /docs."
    ),
    "no_such_incoming": ProblemType(
        404, "No such incoming object", "There is no object under this key. Incoming objects expire after a day."
    ),
    "credentials_disabled": ProblemType(
        404, "No temporary keys here", "This deployment gives out no temporary keys (CREDENTIALS_ENABLED is off)."
    ),
    "method_not_allowed": ProblemType(405, "Method not allowed", "The header `Allow` names the methods of this path."),
    "too_slow": ProblemType(
        408, "The body came too slowly", "The sender was silent for too long or fell below the least rate. Try again."
    ),
    "in_flight": ProblemType(
        409,
        "Still in flight",
        "A request with the same Idempotency-Key (or for the same incoming object) is being handled. Repeat it after "
        "`Retry-After` to get its answer.",
    ),
    "incoming_changed": ProblemType(
        409, "The object changed", "The incoming object was overwritten while it was taken in. Repeat the request."
    ),
    "file_too_large": ProblemType(413, "File too large", "The file has more bytes than are accepted; none was stored."),
    "body_too_large": ProblemType(
        413, "Body too large", "The body has more bytes, parts or header lines than any acceptable request has."
    ),
    "precondition_failed": ProblemType(
        412, "Precondition failed", "The file is not the one that `If-Match` names: it has changed meanwhile."
    ),
    "range_not_satisfiable": ProblemType(
        416, "Range not satisfiable", "The range begins after the end of the file; `Content-Range` gives its size."
    ),
    "not_multipart": ProblemType(
        415, "Not a multipart form", "This call takes `multipart/form-data` with the file in the field `image`."
    ),
    "unsupported_format": ProblemType(
        415, "Unsupported image format", "The file's bytes are not PNG, JPEG or WebP, whatever its name says."
    ),
    "empty": ProblemType(422, "Empty file", "The file has no bytes."),
    "truncated": ProblemType(422, "Truncated image", "The file ends before the picture does. Upload it again."),
    "corrupt": ProblemType(422, "Corrupt image", "The file's structure contradicts itself."),
    "too_many_pixels": ProblemType(
        422, "Too many pixels", "The picture has more pixels than are decoded here. Upload a smaller one."
    ),
    "too_wide": ProblemType(422, "Too wide or too high", "A side is longer than WebP can hold."),
    "none_accepted": ProblemType(
        422, "No file was accepted", "Each file was refused; `images` has a problem document for each, in order."
    ),
    "key_reused": ProblemType(
        422,
        "Idempotency-Key used for another request",
        "This key was used with other fields or files within the last day. Use a new key for a new request.",
    ),
    "saturated": ProblemType(
        429, "Too many uploads at once", "This gateway takes no more uploads right now. Repeat after `Retry-After`."
    ),
    "internal": ProblemType(
        500, "Internal error", "This is a bug. The log has the details under the request id of the answer."
    ),
    "unavailable": ProblemType(
        503, "Try again later", "A part that this request needs is away. Nothing is lost; repeat after `Retry-After`."
    ),
    "unknown_outcome": ProblemType(
        503,
        "Outcome unknown",
        "The log did not confirm the request in time: it may or may not take effect. Repeat it; with the same "
        "Idempotency-Key it never takes effect twice.",
    ),
}
