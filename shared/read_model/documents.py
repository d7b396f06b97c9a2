"""Converts a row to the status document that clients get. The status is computed at each read and never stored."""

from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal
from uuid import UUID

from shared.contract.events import Current, Event, Original, Ready, Removed, Request, Variant
from shared.contract.keys import Owner, reprocess_version
from shared.read_model.picture import of_type, picture, source_set
from shared.read_model.tables import Outcome

Status = Literal["processing", "ready", "failed"]


@dataclass(frozen=True)
class ImageRow:
    """A row of `images`, `images_by_owner` or `images_by_day`; the three hold the same columns."""

    image_id: UUID
    owner: Owner
    uploaded_at: datetime
    image_version: int
    request: Request | None
    outcome: Outcome | None
    current: Current | None


def version(row: ImageRow) -> str:
    """The version of the image's latest upload or replacement. Only another one changes it, no result and no reprocess.

    It is `request.revision_version` in events. For clients it is opaque.
    """
    latest = row.request or row.current
    return str(latest.revision_version if latest else row.image_version)


def shows(row: ImageRow | None, event: Event) -> bool:
    """Whether the row has the effect of this answer, or of a later command. None is the row of an image that is gone.

    An answer that changes no row is always shown.
    """
    if isinstance(event, Removed) or row is None:
        return isinstance(event, Removed) and row is None
    if isinstance(event, Ready):
        return row.current is not None and _precedence(row.current) >= _precedence(event.current)
    if event.answers == "image.reprocess":
        return True
    return (row.outcome is not None and row.outcome.revision == event.request.revision) or (
        row.request is not None and row.request.revision_version > event.request.revision_version
    )


def _precedence(current: Current) -> tuple[int, int]:
    """Order among the renders of an image, as `Manifest.precedence`."""
    return current.revision_version, reprocess_version(current.render) or 0


def _outcome_status(row: ImageRow, outcome: Outcome) -> Status:
    """Status for an outcome. For `superseded` the image is ready if the later render is in the row already."""
    if outcome.status == "superseded":
        return "ready" if row.current else "processing"
    return "failed" if outcome.status == "failed" else "ready"


def status(row: ImageRow) -> Status:
    """Status of the latest request of a client."""
    if row.request is None:
        return _outcome_status(row, row.outcome) if row.outcome else "ready"
    if row.current and row.current.revision == row.request.revision:
        return "ready"
    if row.outcome and row.outcome.revision == row.request.revision:
        return _outcome_status(row, row.outcome)
    return "processing"


def served_original(row: ImageRow) -> Original | None:
    """The original that is served: that of the last ready revision, or that of the request if no revision is ready."""
    if row.current:
        return row.current.original
    return row.request


def _error(row: ImageRow) -> dict[str, str] | None:
    if status(row) == "failed" and row.outcome:
        return {"type": row.outcome.error_type or "unknown", "detail": row.outcome.error_detail or ""}
    return None


def _pending(row: ImageRow) -> dict[str, Any] | None:
    """The replacement that is in progress or failed, if an older revision is served; otherwise None."""
    if row.request is None or row.current is None or row.current.revision == row.request.revision:
        return None
    if row.outcome and row.outcome.revision == row.request.revision and row.outcome.status == "superseded":
        return None
    return {
        "revision": str(row.request.revision),
        "file_name": row.request.file_name,
        "status": status(row),
        "error": _error(row),
    }


def document(row: ImageRow, base_url: str) -> dict[str, Any]:
    """The status document, of JSON types. Its URLs start with `base_url`, and not with the URL stored in the row."""
    shown = picture(row.current, media_url(base_url, "")) if row.current else None
    return listed_document(row, base_url) | {"picture": shown}


def listed_document(row: ImageRow, base_url: str) -> dict[str, Any]:
    """The status document in a list. It has no `picture`, which would nearly double the bytes of a list."""
    original = served_original(row)
    current = row.current
    return {
        "image_id": str(row.image_id),
        "version": version(row),
        "owner_type": row.owner.type,
        "owner_id": row.owner.id,
        "status": status(row),
        "error": _error(row),
        "file_name": original.file_name if original else None,
        "size": original.size if original else None,
        "uploaded_at": row.uploaded_at.isoformat(timespec="milliseconds").replace("+00:00", "Z"),
        "original": _original(original, base_url) if original else None,
        "variants": [_variant(variant, base_url) for variant in current.variants] if current else [],
        "thumbhash": current.thumbhash if current else None,
        "dominant_color": current.dominant_color if current else None,
        "srcset": srcset(current, base_url) if current else None,
        "notes": list(current.notes) if current else [],
        "pending": _pending(row),
    }


def media_url(base_url: str, path: str) -> str:
    """Public URL of an object in the bucket."""
    return f"{base_url}/media/{path}"


def srcset(current: Current, base_url: str) -> str:
    """Value of the HTML attribute `srcset`: the WebP variants by ascending width, each width once."""
    return source_set(of_type(current.variants, "image/webp"), media_url(base_url, ""))


def _original(original: Original, base_url: str) -> dict[str, Any]:
    return {
        "file_name": original.file_name,
        "content_type": original.content_type,
        "url": media_url(base_url, original.path),
        "path": original.path,
        "size": original.size,
        "width": original.width,
        "height": original.height,
        "sha256": original.sha256,
    }


def _variant(variant: Variant, base_url: str) -> dict[str, Any]:
    return {
        "name": variant.name,
        "url": media_url(base_url, variant.path),
        "path": variant.path,
        "content_type": variant.content_type,
        "width": variant.width,
        "height": variant.height,
        "size": variant.size,
        "sha256": variant.sha256,
    }
