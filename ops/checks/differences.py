"""The comparisons of `imagepipe verify`: an image's state in the log with its rows, objects and manifests. Pure."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import Any
from uuid import UUID

from ops.bucket.listing import BucketImage
from ops.index.rows import StoredRow, key_in
from ops.log.fold import Cell, ImageState, unpack
from shared.contract.events import Current, Manifest, Original, OwnerCleared, Ready, Request
from shared.contract.keys import (
    TOMBSTONES_PREFIX,
    manifest_key,
    markers_complete_key,
    markers_prefix,
    parse_marker,
    parse_media_path,
    uploaded_at,
)
from shared.ports import ObjectInfo
from shared.read_model.tables import IMAGE_TABLES

LOG = "log"
FENCE = "fence"
DLQ = "dlq"


class Kind(StrEnum):
    """The kinds of differences."""

    MISSING = "missing"
    EXTRA = "extra"
    STALE = "stale"
    WRONG = "wrong"
    CHECKSUM = "wrong checksum"
    UNANSWERED = "unanswered"


@dataclass(frozen=True)
class Difference:
    """One difference from the log. `where` is a table, a key in the bucket, `log`, `fence` or `dlq`.

    `key` is the primary key of a row; it is None for other differences.
    """

    kind: Kind
    where: str
    image_id: UUID
    detail: str
    key: tuple[Any, ...] | None = None

    def document(self) -> dict[str, str]:
        """The difference as a JSON object."""
        return {"kind": self.kind.value, "where": self.where, "image_id": str(self.image_id), "detail": self.detail}

    def __str__(self) -> str:
        return f"{self.kind:<14} {self.where:<16} {self.image_id}  {self.detail}"


def check_row(state: ImageState | None, row: StoredRow, shards: int) -> Iterator[Difference]:
    """Differences of one stored row. `state` is None if the log has no record of the image."""

    def problem(kind: Kind, detail: str) -> Difference:
        return Difference(kind, row.table, row.image_id, detail, row.key)

    if state is None:
        yield problem(Kind.EXTRA, "the log has no record of this image")
        return
    expected = state.live()
    if not expected:
        yield problem(Kind.EXTRA, f"the log deletes the image at version {state.deleted}")
        return
    if not is_in_place(state, row, shards):
        key = "/".join(str(part) for part in row.key)
        yield problem(Kind.EXTRA, f"the row has the key {key}, but the owner in the log is {state.owner.key}")
        return
    # A row without `image_version` in the log is a ghost. It has neither owner nor upload time.
    is_image = "image_version" in expected
    if is_image and row.owner != state.owner:
        yield problem(Kind.WRONG, f"of {row.owner.key}, the log says {state.owner.key}")
    uploaded = uploaded_at(state.image_id) if is_image else None
    if row.uploaded_at != uploaded:
        yield problem(Kind.WRONG, f"uploaded_at is {row.uploaded_at}, the log says {uploaded}")
    for name in sorted(expected.keys() | row.cells.keys()):
        found = _cell_problem(expected.get(name), row.cells.get(name))
        if found:
            kind, detail = found
            yield problem(kind, f"{name}: {detail}")


def is_in_place(state: ImageState, row: StoredRow, shards: int) -> bool:
    """Whether the row has the primary key under which the gateway reads the image."""
    return row.key == key_in(row.table, state.image_id, state.owner, shards)


def _cell_problem(expected: Cell | None, stored: tuple[int, Any] | None) -> tuple[Kind, str] | None:
    if expected is None:
        return Kind.EXTRA, "the log has no such value"
    if stored is None:
        return Kind.STALE, f"empty, but the log has version {expected.version}"
    at, value = stored
    if at < expected.version:
        return Kind.STALE, f"version {at}, but the log has {expected.version}"
    if at > expected.version:
        return Kind.WRONG, f"written at {at}, above the log's version {expected.version} (by hand, with a clock?)"
    return None if value in expected.values else (Kind.WRONG, f"differs from the log's value at version {at}")


def missing_rows(state: ImageState, tables: Iterable[str]) -> Iterator[Difference]:
    """Differences for the tables in which the image has no row; `tables` are those in which it has one."""
    if state.live():
        for table in IMAGE_TABLES:
            if table not in tables:
                yield Difference(Kind.MISSING, table, state.image_id, f"no row; the owner is {state.owner.key}")


def check_unanswered(
    state: ImageState, fences: Mapping[int, OwnerCleared], dead: Mapping[int, str]
) -> Iterator[Difference]:
    """Differences for the commands of an image that have no answer, and for fences that have left the image.

    A deleted image has none. `fences` maps versions to fences. `dead` maps the version of a dead letter to the name of
    its open DLQ entry.
    """
    if state.is_removed:
        return
    introduced = state.value("image_version")
    pending = dict.fromkeys(state.unanswered, (LOG, "has no answer"))
    for version, fence in fences.items():
        before = version if fence.before is None else fence.before
        if introduced is not None and introduced < before and state.image_id not in fence.keep:
            pending[version] = FENCE, f"clears {state.owner.key}, but this image still exists"
    for version, (where, problem) in sorted(pending.items()):
        entry = f": entry {dead[version]}" if version in dead else ""
        detail = f"the command of version {version} {problem}{entry}"
        yield Difference(Kind.UNANSWERED, DLQ if entry else where, state.image_id, detail)


def check_objects(
    state: ImageState | None,
    image: BucketImage,
    *,
    now: datetime,
    grace: timedelta,
    has_tombstone: bool,
    tombstones_stay: timedelta,
) -> Iterator[Difference]:
    """Differences of an image's objects. Objects younger than `grace` may belong to a running request: they are
    ignored.

    A missing tombstone is a difference for `tombstones_stay` after the deletion. Later the bucket's lifecycle has
    deleted it.
    """

    def extra(reason: str, objects: Iterable[Any]) -> Iterator[Difference]:
        for info in objects:
            if now - info.modified >= grace:
                yield Difference(Kind.EXTRA, info.key, image.image_id, reason)

    if state is None or state.is_removed:
        yield from extra("the image is deleted" if state else "the log has no record of this image", image.objects)
        deleted_at = datetime.fromtimestamp(state.deleted_at / 1000, UTC) if state else now
        if state and not has_tombstone and now - deleted_at < tombstones_stay:
            yield Difference(Kind.MISSING, TOMBSTONES_PREFIX, image.image_id, "the image is deleted in the log")
        return
    yield from extra("imagepipe writes no such key", image.misnamed)
    for revision, folder in image.revisions.items():
        if revision not in state.revisions:
            unknown = [info for render in folder.renders.values() for info in render.objects]
            yield from extra("the log has no record of this revision", [*folder.originals, *unknown])
    yield from extra("no record of the log names this object", unexpected_objects(state, image))
    if has_tombstone:
        yield Difference(Kind.EXTRA, TOMBSTONES_PREFIX, image.image_id, "the log has no deletion of this image")
    yield from _missing_objects(state, image)
    yield from _missing_marker(state, image)


def unexpected_objects(state: ImageState, image: BucketImage) -> Iterator[ObjectInfo]:
    """Objects in known revisions that no record of the log names. Running commands cannot write any of these:

    1. Originals other than the uploaded one.
    2. Variants in the folder of the served render that its answer does not name. The answer never changes.
    3. Variants of a render without a manifest for which the log has no command. With a command it may be running.
    """
    served = {current.revision: current.render for current in _alternatives(state)}
    named = {variant.path for current in _alternatives(state) for variant in current.variants}
    for revision, folder in image.revisions.items():
        if revision not in state.revisions:
            continue
        yield from (info for info in folder.originals if info.key != state.revisions[revision])
        for name, render in folder.renders.items():
            if served.get(revision) == name:
                yield from (info for info in render.variants if info.key not in named)
            elif render.manifest is None and (revision, name) not in state.renders:
                yield from render.variants


def _missing_marker(state: ImageState, image: BucketImage) -> Iterator[Difference]:
    """The difference of an image whose markers count as complete, but lack the served render.

    It happens if a version without markers has handled commands after a later version.
    """
    complete = markers_complete_key(image.image_id)
    current: Current | None = state.value("current")
    if current is None or all(info.key != complete for info in image.markers):
        return
    markers = [marker for info in image.markers if (marker := parse_marker(info.key))]
    if all((marker.revision, marker.render) != (current.revision, current.render) for marker in markers):
        detail = f"no marker of the served render {current.revision}/{current.render}"
        yield Difference(Kind.MISSING, markers_prefix(image.image_id), image.image_id, detail)


def _alternatives(state: ImageState) -> list[Current]:
    """The results that may be served. There are several if the log has different answers with the same version."""
    cell = state.live().get("current")
    return [unpack("current", value) for value in cell.values] if cell else []


def _missing_objects(state: ImageState, image: BucketImage) -> Iterator[Difference]:
    for name, size in wanted_objects(state):
        stored = image.sizes.get(name)
        if stored is None:
            yield Difference(Kind.MISSING, name, image.image_id, "not in the bucket")
        elif size is not None and stored != size:
            yield Difference(Kind.CHECKSUM, name, image.image_id, f"has {stored} bytes, but {size} in the log")


def wanted_objects(state: ImageState) -> Iterator[tuple[str, int | None]]:
    """Keys of the objects that an existing image must have, with their sizes in bytes (None: unknown)."""
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
    # The log has an answer for a lost original. The sweep may have deleted a superseded original.
    outcome = state.value("outcome")
    if outcome and outcome.revision == request.revision and outcome.error_type == "original_lost":
        return False
    return current is None or request.revision_version >= current.revision_version


def checksums(state: ImageState) -> dict[str, str]:
    """Maps the key of each object whose checksum is in the log to its SHA-256 in hex."""
    current: Current | None = state.value("current")
    request: Request | None = state.value("request")
    found = {request.path: request.sha256} if request and _still_has_original(state, request, current) else {}
    if current is not None:
        found[current.original.path] = current.original.sha256
        found |= {variant.path: variant.sha256 for variant in current.variants}
    return found


def check_manifests(state: ImageState, manifests: Mapping[str, Manifest | None]) -> Iterator[Difference]:
    """Differences of the image's manifests. `manifests` maps keys to manifests; None stands for an invalid one."""
    current: Current | None = state.value("current")
    for key, manifest in manifests.items():
        if manifest is None:
            yield Difference(Kind.WRONG, key, state.image_id, "the manifest is invalid")
            continue
        event = manifest.event
        place = manifest_key(event.image_id, event.request.revision, manifest.render)
        if place != key or event.owner != state.owner:
            yield Difference(Kind.WRONG, key, state.image_id, f"belongs to {place} and {event.owner.key}")
            continue
        served = current is not None and manifest_key(state.image_id, current.revision, current.render) == key
        if isinstance(event, Ready):
            yield from _check_ready(state, key, event, current, served)
        elif served:
            yield Difference(Kind.WRONG, key, state.image_id, "the render failed here, but is ready in the log")


def _check_ready(
    state: ImageState, key: str, event: Ready, current: Current | None, served: bool
) -> Iterator[Difference]:
    if served and event.current != current:
        yield Difference(Kind.WRONG, key, state.image_id, "differs from the answer in the log")
    elif not served and (event.version in state.unanswered or _is_newer(state, event, current)):
        yield Difference(Kind.UNANSWERED, key, state.image_id, "the log has no answer for this render")
    if any(parse_media_path(variant.path) is None for variant in event.current.variants):
        yield Difference(Kind.WRONG, key, state.image_id, "names variants with invalid keys")


def _is_newer(state: ImageState, event: Ready, current: Current | None) -> bool:
    """Whether the render is later than the log's current one. Then its answer is lost, and perhaps its command too."""
    if current is None:
        return True
    return (event.current.revision_version, event.version) > (current.revision_version, state.cells["current"].version)
