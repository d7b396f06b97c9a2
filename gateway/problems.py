"""Errors as RFC 9457 problem documents: one type per cause, each with a page of its own under `/problems`."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


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


PROBLEM_TYPES: dict[str, ProblemType] = {
    "bad_request": ProblemType(400, "Bad request", "The request's parameters do not fit; the detail names which."),
    "invalid_owner": ProblemType(
        400,
        "Owner not understood",
        "An owner is named by `owner_type` with `owner_id`, or by `<type>_id=<id>`, once. The type matches "
        "`[a-z][a-z0-9_]{0,31}`; the id has 1 to 128 characters and no control characters.",
    ),
    "not_found": ProblemType(404, "No such image", "There is no image with this id or URL, or it was deleted."),
    "unavailable": ProblemType(
        503, "Try again later", "A part that this request needs is away. Nothing is lost; repeat after `Retry-After`."
    ),
}
