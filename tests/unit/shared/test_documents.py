"""Row to document: status, what is served, and what is pending, for every way a row can look."""

from datetime import UTC, datetime
from typing import Any

import pytest

from shared.contract.events import Current, Request
from shared.read_model.documents import ImageRow, document, served_original, srcset, status
from shared.read_model.tables import Outcome
from tests.support import records
from tests.support.records import BASE, OWNER, id_at

MOMENT = datetime(2026, 5, 4, 10, 30, 0, 120_000, UTC)
IMAGE, OLD, NEW = (id_at(MOMENT, tail) for tail in range(3))
DIGEST = "0123456789abcdef"

REQUEST_OLD = records.request(IMAGE, OLD, 2)
REQUEST_NEW = records.request(IMAGE, NEW, 10, file_name="dog.jpg")
CURRENT_OLD = records.current(IMAGE, OLD, 2, DIGEST)
CURRENT_NEW = records.current(IMAGE, NEW, 10, DIGEST)


def row(request: Request | None, outcome: Outcome | None, current: Current | None) -> ImageRow:
    return ImageRow(IMAGE, OWNER, MOMENT, 2, request, outcome, current)


FAILED_OLD, FAILED_NEW = (Outcome(revision, "failed", "truncated", "It ends early.") for revision in (OLD, NEW))
READY_OLD, READY_NEW = (Outcome(revision, "ready") for revision in (OLD, NEW))
SUPERSEDED_OLD, SUPERSEDED_NEW = (Outcome(revision, "superseded") for revision in (OLD, NEW))


@pytest.mark.parametrize(
    ("found", "expected", "served", "pending"),
    [
        # First upload.
        (row(REQUEST_OLD, None, None), "processing", OLD, None),
        (row(REQUEST_OLD, READY_OLD, CURRENT_OLD), "ready", OLD, None),
        (row(REQUEST_OLD, FAILED_OLD, None), "failed", OLD, None),
        # Replacement: under way, ready, failed.
        (row(REQUEST_NEW, READY_OLD, CURRENT_OLD), "processing", OLD, "processing"),
        (row(REQUEST_NEW, READY_NEW, CURRENT_NEW), "ready", NEW, None),
        (row(REQUEST_NEW, FAILED_NEW, CURRENT_OLD), "failed", OLD, "failed"),
        # Replacement of a failed image.
        (row(REQUEST_NEW, FAILED_OLD, None), "processing", NEW, None),
        (row(REQUEST_NEW, FAILED_NEW, None), "failed", NEW, None),
        # Failed at first, then reprocessed: the reprocess writes `current` only.
        (row(REQUEST_OLD, FAILED_OLD, CURRENT_OLD), "ready", OLD, None),
        # Superseded: the later render is shown, or will be.
        (row(REQUEST_OLD, SUPERSEDED_OLD, CURRENT_OLD), "ready", OLD, None),
        (row(REQUEST_NEW, SUPERSEDED_NEW, CURRENT_OLD), "ready", OLD, None),
        (row(REQUEST_OLD, SUPERSEDED_OLD, None), "processing", OLD, None),
        # Answers before the command: events are read faster.
        (row(None, READY_OLD, CURRENT_OLD), "ready", OLD, None),
        (row(None, FAILED_OLD, None), "failed", None, None),
        (row(None, SUPERSEDED_OLD, None), "processing", None, None),
        (row(None, None, CURRENT_OLD), "ready", OLD, None),
        (row(None, None, None), "ready", None, None),
    ],
)
def test_status_and_what_is_served(found: ImageRow, expected: str, served: object, pending: str | None) -> None:
    result = document(found, BASE)
    assert status(found) == result["status"] == expected
    original = served_original(found)
    assert (original.path.split("/")[2] if original else None) == (str(served) if served else None)
    assert (result["pending"] or {}).get("status") == pending
    assert (result["error"] is not None) == (expected == "failed")
    assert bool(result["variants"]) == (found.current is not None)


def test_document_of_a_ready_image() -> None:
    result = document(row(REQUEST_OLD, READY_OLD, CURRENT_OLD), "https://cdn.example.com")
    assert result["image_id"] == str(IMAGE)
    assert (result["owner_type"], result["owner_id"]) == ("user", "1")
    assert result["uploaded_at"] == "2026-05-04T10:30:00.120Z"
    assert (result["file_name"], result["size"]) == ("cat.jpg", 48_231)
    assert [variant["name"] for variant in result["variants"]] == ["full", "large", "medium", "small"]
    # Built on the current base URL, not on that of the time when the row was written.
    for part in (result["original"], *result["variants"]):
        assert part["url"] == f"https://cdn.example.com/media/{part['path']}"
    assert result["dominant_color"] == "#7f6f5f"
    assert result["pending"] is None


def test_failed_replacement_reports_its_error_and_serves_the_previous_revision() -> None:
    result: dict[str, Any] = document(row(REQUEST_NEW, FAILED_NEW, CURRENT_OLD), BASE)
    error = {"type": "truncated", "detail": "It ends early."}
    assert result["pending"] == {"revision": str(NEW), "file_name": "dog.jpg", "status": "failed", "error": error}
    assert result["error"] == error
    assert result["file_name"] == "cat.jpg"


def test_original_of_the_request_is_served_while_nothing_is_ready() -> None:
    assert served_original(row(REQUEST_NEW, None, None)) == REQUEST_NEW
    assert served_original(row(None, FAILED_OLD, None)) is None


def test_srcset_has_each_width_once_ascending() -> None:
    small = CURRENT_OLD.variants[3]
    same_width = small.model_copy(update={"name": "tiny", "path": "images/other"})
    current = CURRENT_OLD.model_copy(update={"variants": (*CURRENT_OLD.variants, same_width)})
    widths = [part.split(" ")[1] for part in srcset(current, BASE).split(", ")]
    assert widths == ["320w", "640w", "1200w", "1600w"]
    assert small.path in srcset(current, BASE)
