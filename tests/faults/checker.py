"""Checks a history against the final state. It knows the guarantees, not the implementation.

An operation of unknown outcome may have taken effect at any time after it was sent, or never, because a producer may
still deliver after its time-out. Each image is changed by one client only, one operation after the other.
"""

from collections import Counter, defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field

from tests.faults.history import FinalState, FoundImage, Kind, Operation, Result


@dataclass(frozen=True)
class Violation:
    """A violated guarantee. `rule` is one of the names below; `detail` names the image and the reason."""

    rule: str
    detail: str


LOST = "acknowledged upload lost"
UNFINISHED = "image neither ready nor failed with a reason"
WRONG_CONTENT = "other bytes than those of the last acknowledged request"
NOT_KEPT = "failed replacement without the variants of the previous revision"
UNEXPLAINED = "picture that no decoder reads failed for another reason"
MISPLACED = "image in the list of another owner"
RESURRECTED = "acknowledged delete or clear undone"
LEFTOVER = "objects of a deleted image in the bucket"
TWICE = "image or upload visible twice"
PHANTOM = "image that no client uploaded"
ORPHAN = "objects that belong to no image"
DISORDERED = "answers in another order than the commands"
UNREADABLE = "served bytes cannot be fetched or differ"
DEAD_LETTER = "dead letter without cause"


DECODER_REASONS = {"corrupt", "truncated", "undecodable"}


@dataclass
class _Image:
    """What may be true of one image at the end."""

    upload: Operation
    changes: list[Operation] = field(default_factory=list)

    def contents(self) -> set[str]:
        """Checksums that may be served: those of a request that can be rendered, if one certainly took effect."""
        rendered = [op for op in self._acknowledged() if op.renderable]
        if not rendered:
            return {op.sha256 for op in self.latest() if op.sha256}
        maybe = [op for op in self.unknown(Kind.REPLACE) if op.renderable]
        return {op.sha256 for op in [rendered[-1], *maybe] if op.sha256}

    def latest(self) -> list[Operation]:
        """Requests of which one is the last that took effect: the last acknowledged, or any of unknown outcome."""
        return [self._acknowledged()[-1], *self.unknown(Kind.REPLACE)]

    def unknown(self, kind: Kind) -> list[Operation]:
        return [op for op in self.changes if op.kind is kind and op.result is Result.UNKNOWN]

    def was_rendered(self) -> bool:
        """Whether a revision that can be rendered certainly took effect."""
        return any(op.renderable for op in self._acknowledged())

    def is_deleted(self) -> bool:
        return any(op.kind is Kind.DELETE and op.result is Result.OK for op in self.changes)

    def _acknowledged(self) -> list[Operation]:
        replaced = [op for op in self.changes if op.kind is Kind.REPLACE and op.result is Result.OK]
        return [self.upload, *replaced]


def check(history: Iterable[Operation], state: FinalState) -> list[Violation]:
    """Every violation; empty if there is none."""
    operations = sorted(history, key=lambda op: op.started)
    images = _images(operations)
    clears = [op for op in operations if op.kind is Kind.CLEAR and op.result is not Result.REFUSED]
    found = {image.image_id: image for image in state.listed}
    violations = [
        *_twice(state),
        *_phantoms(operations, state),
        *_misplaced(operations, images, state),
        *_orphans(operations, images, state),
    ]
    for image_id, image in images.items():
        must_go, may_go = _fate(image, clears)
        shown = found.get(image_id)
        if must_go and shown:
            violations.append(Violation(RESURRECTED, image_id))
        elif shown:
            violations += _intact(image, shown)
        elif not may_go:
            violations.append(Violation(LOST, image_id))
        if must_go or (not shown and may_go):
            violations += _leftovers(image_id, image, state)
    violations += [Violation(UNREADABLE, image_id) for image_id in sorted(state.unreadable)]
    violations += [Violation(DISORDERED, image_id) for image_id in sorted(state.disordered)]
    if state.dead_letters:
        violations.append(Violation(DEAD_LETTER, f"{state.dead_letters} records"))
    return violations


def served(history: Iterable[Operation], began: float, ended: float) -> bool:
    """Whether an upload was sent and acknowledged between these times."""
    acknowledged = (op for op in history if op.kind is Kind.UPLOAD and op.result is Result.OK)
    return any(began < op.started and op.ended < ended for op in acknowledged)


def _images(operations: list[Operation]) -> dict[str, _Image]:
    images: dict[str, _Image] = {}
    for op in operations:
        if op.kind is Kind.UPLOAD and op.result is Result.OK and op.image_id:
            images[op.image_id] = _Image(op)
        elif op.kind in (Kind.REPLACE, Kind.DELETE) and op.image_id in images and op.result is not Result.REFUSED:
            images[op.image_id].changes.append(op)
    return images


def _fate(image: _Image, clears: list[Operation]) -> tuple[bool, bool]:
    """Whether the image must be gone, and whether it may be."""
    mine = [op for op in clears if op.owner == image.upload.owner]
    cleared = [op for op in mine if op.result is Result.OK and op.started > image.upload.ended]
    # A clear that began before the upload was acknowledged may come before or after it in the log. One of unknown
    # outcome may land at any later time.
    raced = [op for op in mine if op.ended > image.upload.started or op.result is Result.UNKNOWN]
    must_go = bool(image.is_deleted() or cleared)
    return must_go, bool(must_go or raced or image.unknown(Kind.DELETE))


def _leftovers(image_id: str, image: _Image, state: FinalState) -> list[Violation]:
    """Objects of an image that is gone, whether or not its client knows that it is.

    A replacement of unknown outcome may have left an original without a command, stored after the deletion.
    """
    left: dict[str, list[str]] = defaultdict(list)
    for key in sorted(state.object_keys):
        if key.startswith(f"images/{image_id}/"):
            left[key.split("/")[2]].append(key)
    bare = [revision for revision, keys in left.items() if _is_bare(keys)]
    for revision in bare[: len(image.unknown(Kind.REPLACE))]:
        del left[revision]
    return [
        Violation(LEFTOVER, f"{image_id}: {len(keys)} of {revision}, such as {keys[0]}")
        for revision, keys in left.items()
    ]


def _is_bare(keys: list[str]) -> bool:
    """Whether these objects are one original that was not rendered."""
    return len(keys) == 1 and "/original." in keys[0]


def _intact(image: _Image, shown: FoundImage) -> list[Violation]:
    violations = []
    ready = shown.status == "ready" and shown.variants == 4
    failed = shown.status == "failed" and bool(shown.error_type)
    if not (ready or failed):
        violations.append(Violation(UNFINISHED, f"{shown.image_id}: {shown.status}, {shown.variants} variants"))
    if failed and all(op.renderable for op in image.latest()):
        violations.append(Violation(UNFINISHED, f"{shown.image_id}: failed as {shown.error_type}, but is renderable"))
    if failed and not any(op.renderable for op in image.latest()) and shown.error_type not in DECODER_REASONS:
        violations.append(Violation(UNEXPLAINED, f"{shown.image_id}: failed as {shown.error_type}"))
    if failed and image.was_rendered() and shown.variants != 4:
        violations.append(Violation(NOT_KEPT, f"{shown.image_id}: {shown.variants} variants"))
    if ready and not any(op.renderable for op in image.latest()):
        violations.append(Violation(UNFINISHED, f"{shown.image_id}: ready, but cannot be rendered"))
    if shown.served_sha256 not in image.contents():
        violations.append(Violation(WRONG_CONTENT, f"{shown.image_id}: {shown.served_sha256}"))
    return violations


def _twice(state: FinalState) -> list[Violation]:
    by_id = Counter(image.image_id for image in state.listed)
    by_content: dict[str, set[str]] = defaultdict(set)
    for image in state.listed:
        by_content[image.served_sha256].add(image.image_id)
    return [
        Violation(TWICE, f"{image_id} is listed {count} times") for image_id, count in by_id.items() if count > 1
    ] + [Violation(TWICE, f"one upload became {sorted(ids)}") for ids in by_content.values() if len(ids) > 1]


def _phantoms(operations: list[Operation], state: FinalState) -> list[Violation]:
    sent = {op.sha256 for op in operations if op.result is not Result.REFUSED}
    return [
        Violation(PHANTOM, f"{image.image_id} of {image.owner}")
        for image in state.listed
        if image.served_sha256 not in sent
    ]


def _misplaced(operations: list[Operation], images: dict[str, _Image], state: FinalState) -> list[Violation]:
    """An image of unknown outcome has the owner of the request that sent its bytes."""
    by_content = {op.sha256: op.owner for op in operations if op.sha256}
    violations = []
    for shown in state.listed:
        image = images.get(shown.image_id)
        owner = image.upload.owner if image else by_content.get(shown.served_sha256, shown.owner)
        if shown.owner != owner:
            violations.append(Violation(MISPLACED, f"{shown.image_id} of {owner} in the list of {shown.owner}"))
    return violations


def _orphans(operations: list[Operation], images: dict[str, _Image], state: FinalState) -> list[Violation]:
    """Objects of ids that no list shows and no acknowledged upload had.

    An upload of unknown outcome may leave an original without a command: one object, which `imagepipe gc` reports.
    """
    known = {image.image_id for image in state.listed} | set(images)
    stray: dict[str, list[str]] = defaultdict(list)
    for key in state.object_keys:
        if key.startswith("images/"):
            image_id = key.split("/")[1]
            if image_id not in known:
                stray[image_id].append(key)
    allowed = sum(op.kind is Kind.UPLOAD and op.result is Result.UNKNOWN for op in operations)
    bare = [image_id for image_id, keys in stray.items() if _is_bare(keys)]
    violations = [
        Violation(ORPHAN, f"{image_id}: {len(keys)} objects, such as {min(keys)}")
        for image_id, keys in stray.items()
        if image_id not in bare
    ]
    if len(bare) > allowed:
        violations.append(Violation(ORPHAN, f"{len(bare)} bare originals, {allowed} uploads of unknown outcome"))
    return violations
