"""What `imagepipe verify` compares, image by image: the log's state with rows, objects and manifests. Pure."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any
from uuid import UUID

from ops.bucket import BucketImage
from ops.fold import Cell, ImageState
from ops.rows import IMAGE_TABLES, StoredRow, key_in
from shared.events import Current, Manifest, Original, Ready, Request
from shared.keys import manifest_key, parse_media_path


class Kind(StrEnum):
    """What is wrong."""

    MISSING = "missing"
    EXTRA = "extra"
    STALE = "stale"
    WRONG = "wrong"
    CHECKSUM = "wrong checksum"
    UNANSWERED = "unanswered"


@dataclass(frozen=True)
class Difference:
    """One thing that is not as the log says. `where` is a table, a key in the bucket, or `log`."""

    kind: Kind
    where: str
    image_id: UUID
    detail: str

    def document(self) -> dict[str, str]:
        """For JSON."""
        return {"kind": self.kind.value, "where": self.where, "image_id": str(self.image_id), "detail": self.detail}

    def __str__(self) -> str:
        return f"{self.kind:<14} {self.where:<16} {self.image_id}  {self.detail}"


def check_row(state: ImageState | None, row: StoredRow, shards: int) -> Iterator[Difference]:
    """Differences of one stored row. `state` None: the log knows nothing of the image."""
    if state is None:
        yield Difference(Kind.EXTRA, row.table, row.image_id, "the log does not know this image")
        return
    expected = state.live()
    if not expected:
        yield Difference(Kind.EXTRA, row.table, row.image_id, f"deleted at version {state.deleted}")
        return
    if row.owner != state.owner or row.key != key_in(row.table, state.image_id, state.owner, shards):
        yield Difference(
            Kind.EXTRA, row.table, row.image_id, f"under the key {row.key}, the log says {state.owner.key}"
        )
        return
    for name in sorted(expected.keys() | row.cells.keys()):
        problem = _cell_problem(expected.get(name), row.cells.get(name))
        if problem:
            kind, detail = problem
            yield Difference(kind, row.table, row.image_id, f"{name}: {detail}")


def _cell_problem(expected: Cell | None, stored: tuple[int, Any] | None) -> tuple[Kind, str] | None:
    if expected is None:
        return Kind.EXTRA, "the log has none"
    if stored is None:
        return Kind.STALE, f"empty, the log has version {expected.version}"
    at, value = stored
    if at < expected.version:
        return Kind.STALE, f"of version {at}, the log has {expected.version}"
    if at > expected.version:
        return Kind.WRONG, f"written at {at}, above the log's version {expected.version}: by hand, with a clock?"
    return None if value in expected.values else (Kind.WRONG, f"another value at version {at}")


def missing_rows(state: ImageState, tables: Iterable[str]) -> Iterator[Difference]:
    """Differences of an image for the tables in which it has a row."""
    if state.live():
        for table in IMAGE_TABLES:
            if table not in tables:
                yield Difference(Kind.MISSING, table, state.image_id, f"a row of {state.owner.key}")


def check_unanswered(state: ImageState) -> Iterator[Difference]:
    """Commands that nobody has answered; none counts for an image that is gone."""
    if not state.is_removed:
        for version in sorted(state.unanswered):
            yield Difference(Kind.UNANSWERED, "log", state.image_id, f"the command of version {version} has no answer")


def check_objects(
    state: ImageState | None, image: BucketImage, *, now: datetime, grace: timedelta, buried: bool
) -> Iterator[Difference]:
    """Differences of what is in the bucket. Objects younger than `grace` may belong to a request under way."""

    def extra(reason: str, objects: Iterable[Any]) -> Iterator[Difference]:
        for info in objects:
            if now - info.modified >= grace:
                yield Difference(Kind.EXTRA, info.key, image.image_id, reason)

    if state is None or state.is_removed:
        yield from extra("the image is deleted" if state else "the log does not know this image", image.objects)
        if state and state.deleted >= 0 and not buried:
            yield Difference(Kind.MISSING, "tombstones/", image.image_id, "the log says that the image is deleted")
        return
    yield from extra("no key of ours", image.strange)
    for revision, folder in image.revisions.items():
        if revision not in state.revisions:
            unknown = [*([folder.original] if folder.original else [])]
            unknown += [info for render in folder.renders.values() for info in render.objects]
            yield from extra("the log does not know this revision", unknown)
    if buried:
        yield Difference(Kind.EXTRA, "tombstones/", image.image_id, "the log does not know of a deletion")
    yield from _missing_objects(state, image)


def _missing_objects(state: ImageState, image: BucketImage) -> Iterator[Difference]:
    for name, size in wanted_objects(state):
        stored = image.sizes.get(name)
        if stored is None:
            yield Difference(Kind.MISSING, name, image.image_id, "not in the bucket")
        elif size is not None and stored != size:
            yield Difference(Kind.CHECKSUM, name, image.image_id, f"has {stored} bytes, the log says {size}")


def wanted_objects(state: ImageState) -> Iterator[tuple[str, int | None]]:
    """Keys that a living image must have, with their sizes in bytes (None: any)."""
    current: Current | None = state.value("current")
    request: Request | None = state.value("request")
    originals: dict[str, Original] = {}
    if current is not None:
        originals[current.original.path] = current.original
        yield manifest_key(state.image_id, current.revision, current.render), None
        for variant in current.variants:
            yield variant.path, variant.size
    if request is not None and _still_has_original(state, request, current):
        originals.setdefault(request.path, request)
    for path, original in originals.items():
        yield path, original.size


def _still_has_original(state: ImageState, request: Request, current: Current | None) -> bool:
    # An original that is lost for good was answered so; one that was superseded may have been swept.
    outcome = state.value("outcome")
    if outcome and outcome.revision == request.revision and outcome.error_type == "original_lost":
        return False
    return current is None or request.revision_version >= current.revision_version


def checksums(state: ImageState) -> dict[str, str]:
    """SHA-256 in hex of each object that the log vouches for, by key."""
    current: Current | None = state.value("current")
    request: Request | None = state.value("request")
    found = {request.path: request.sha256} if request and _still_has_original(state, request, current) else {}
    if current is not None:
        found[current.original.path] = current.original.sha256
        found |= {variant.path: variant.sha256 for variant in current.variants}
    return found


def check_manifests(state: ImageState, manifests: Mapping[str, Manifest | None]) -> Iterator[Difference]:
    """Differences of the image's manifests, by key; None for one that cannot be read."""
    current: Current | None = state.value("current")
    for key, manifest in manifests.items():
        if manifest is None:
            yield Difference(Kind.WRONG, key, state.image_id, "cannot be read as a manifest")
            continue
        event = manifest.event
        place = manifest_key(event.image_id, event.request.revision, manifest.render)
        if place != key or event.owner != state.owner:
            yield Difference(Kind.WRONG, key, state.image_id, f"is of {place} and {event.owner.key}")
        elif isinstance(event, Ready):
            yield from _check_ready(state, key, event, current)


def _check_ready(state: ImageState, key: str, event: Ready, current: Current | None) -> Iterator[Difference]:
    served = current is not None and manifest_key(state.image_id, current.revision, current.render) == key
    if served and event.current != current:
        yield Difference(Kind.WRONG, key, state.image_id, "says something else than the answer in the log")
    elif not served and (event.version in state.unanswered or _is_newer(state, event, current)):
        yield Difference(Kind.UNANSWERED, key, state.image_id, "no answer in the log tells of this render")
    if any(parse_media_path(variant.path) is None for variant in event.current.variants):
        yield Difference(Kind.WRONG, key, state.image_id, "names variants that are no keys of ours")


def _is_newer(state: ImageState, event: Ready, current: Current | None) -> bool:
    """Whether the render comes after the one that the log has as current: its answer, even its command, is lost."""
    if current is None:
        return True
    return (event.current.revision_version, event.version) > (current.revision_version, state.cells["current"].version)
