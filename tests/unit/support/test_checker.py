"""The checker of the fault suite finds a history that violates each rule, and accepts those that violate none."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from uuid import UUID

import pytest

from ops.bucket.listing import sort_objects
from ops.checks.differences import check_objects
from ops.log.fold import Fold
from shared.contract.keys import image_prefix, manifest_key, new_id, original_key, variant_key
from shared.contract.logged_command import versioned
from shared.ports import ObjectInfo
from tests.faults import checker
from tests.faults.checker import check, served
from tests.faults.history import FinalState, FoundImage, Kind, Operation, Result
from tests.faults.observe import unexplained
from tests.support.records import deleted, uploaded

UPLOAD = Operation(Kind.UPLOAD, "user:1", Result.OK, 1.0, 2.0, image_id="a", sha256="aa")
REPLACE = Operation(Kind.REPLACE, "user:1", Result.OK, 3.0, 4.0, image_id="a", sha256="bb")
BROKEN_REPLACE = replace(REPLACE, renderable=False)
DELETE = Operation(Kind.DELETE, "user:1", Result.OK, 5.0, 6.0, image_id="a")
BROKEN = replace(UPLOAD, renderable=False)
CLEAR = Operation(Kind.CLEAR, "user:1", Result.OK, 5.0, 6.0)
FOUND = FoundImage("a", "user:1", "ready", None, "aa", 4)
FAILED = replace(FOUND, status="failed", error_type="corrupt", variants=0)
OBJECTS = frozenset({"images/a/r/original.png", "images/a/r/d/full.webp", "images/a/r/d/manifest.json"})
NOTHING = FinalState((), frozenset())
LATE_ORIGINAL = FinalState((), frozenset({"images/a/late/original.png"}))
RACED = replace(CLEAR, started=1.5, ended=3.0)


def unknown(operation: Operation) -> Operation:
    return replace(operation, result=Result.UNKNOWN)


def rules(history: list[Operation], state: FinalState) -> set[str]:
    return {violation.rule for violation in check(history, state)}


@pytest.mark.parametrize(
    ("history", "state"),
    [
        ([UPLOAD], FinalState((FOUND,), OBJECTS)),
        ([UPLOAD, REPLACE], FinalState((replace(FOUND, served_sha256="bb"),), OBJECTS)),
        ([UPLOAD, unknown(REPLACE)], FinalState((FOUND,), OBJECTS)),
        ([UPLOAD, unknown(REPLACE)], FinalState((replace(FOUND, served_sha256="bb"),), OBJECTS)),
        ([UPLOAD, DELETE], NOTHING),
        ([UPLOAD, unknown(DELETE)], NOTHING),
        ([UPLOAD, unknown(DELETE)], FinalState((FOUND,), OBJECTS)),
        ([UPLOAD, CLEAR], NOTHING),
        ([UPLOAD, RACED], NOTHING),
        ([UPLOAD, RACED], FinalState((FOUND,), OBJECTS)),
        ([UPLOAD, unknown(REPLACE), DELETE], LATE_ORIGINAL),
        ([UPLOAD, unknown(REPLACE), RACED], LATE_ORIGINAL),
        ([UPLOAD, replace(CLEAR, owner="user:2")], FinalState((FOUND,), OBJECTS)),
        ([unknown(replace(UPLOAD, image_id=None))], NOTHING),
        ([unknown(replace(UPLOAD, image_id=None))], FinalState((FOUND,), OBJECTS)),
        ([unknown(replace(UPLOAD, image_id=None))], FinalState((), frozenset({"images/a/r/original.png"}))),
        ([BROKEN], FinalState((FAILED,), OBJECTS)),
        ([BROKEN, REPLACE], FinalState((replace(FOUND, served_sha256="bb"),), OBJECTS)),
        ([BROKEN, unknown(REPLACE)], FinalState((FAILED,), OBJECTS)),
        ([BROKEN, unknown(REPLACE)], FinalState((replace(FOUND, served_sha256="bb"),), OBJECTS)),
        ([BROKEN, BROKEN_REPLACE], FinalState((replace(FAILED, served_sha256="bb"),), OBJECTS)),
        ([UPLOAD, BROKEN_REPLACE], FinalState((replace(FAILED, variants=4),), OBJECTS)),
    ],
)
def test_history_without_violations_passes(history: list[Operation], state: FinalState) -> None:
    assert check(history, state) == []


@pytest.mark.parametrize(
    ("rule", "history", "state"),
    [
        (checker.LOST, [UPLOAD], NOTHING),
        (checker.LOST, [UPLOAD, replace(CLEAR, started=0.1, ended=0.5)], NOTHING),
        (checker.LOST, [UPLOAD, replace(CLEAR, owner="user:2")], NOTHING),
        (checker.UNFINISHED, [UPLOAD], FinalState((replace(FOUND, status="processing", variants=0),), OBJECTS)),
        (checker.UNFINISHED, [UPLOAD], FinalState((replace(FOUND, variants=3),), OBJECTS)),
        (checker.UNFINISHED, [UPLOAD], FinalState((replace(FOUND, status="failed", error_type="timeout"),), OBJECTS)),
        (checker.UNFINISHED, [BROKEN, REPLACE], FinalState((replace(FAILED, served_sha256="bb"),), OBJECTS)),
        (checker.UNFINISHED, [BROKEN], FinalState((FOUND,), OBJECTS)),
        (checker.UNFINISHED, [UPLOAD, BROKEN_REPLACE], FinalState((FOUND,), OBJECTS)),
        (checker.NOT_KEPT, [UPLOAD, BROKEN_REPLACE], FinalState((FAILED,), OBJECTS)),
        (
            checker.UNEXPLAINED,
            [UPLOAD, BROKEN_REPLACE],
            FinalState((replace(FAILED, variants=4, error_type="timeout"),), OBJECTS),
        ),
        (
            checker.WRONG_CONTENT,
            [UPLOAD, BROKEN_REPLACE],
            FinalState((replace(FAILED, variants=4, served_sha256="bb"),), OBJECTS),
        ),
        (checker.DISORDERED, [UPLOAD], replace(FinalState((FOUND,), OBJECTS), disordered=frozenset({"a"}))),
        (checker.WRONG_CONTENT, [BROKEN, REPLACE], FinalState((FOUND,), OBJECTS)),
        (checker.MISPLACED, [UPLOAD], FinalState((replace(FOUND, owner="user:2"),), OBJECTS)),
        (
            checker.MISPLACED,
            [unknown(replace(UPLOAD, image_id=None))],
            FinalState((replace(FOUND, owner="user:2"),), OBJECTS),
        ),
        (checker.WRONG_CONTENT, [UPLOAD, REPLACE], FinalState((FOUND,), OBJECTS)),
        (checker.RESURRECTED, [UPLOAD, DELETE], FinalState((FOUND,), frozenset())),
        (checker.RESURRECTED, [UPLOAD, CLEAR], FinalState((FOUND,), frozenset())),
        (checker.LEFTOVER, [UPLOAD, DELETE], FinalState((), OBJECTS)),
        (checker.LEFTOVER, [UPLOAD, unknown(DELETE)], FinalState((), OBJECTS)),
        (checker.LEFTOVER, [UPLOAD, CLEAR], FinalState((), OBJECTS)),
        (checker.LEFTOVER, [UPLOAD, unknown(CLEAR)], FinalState((), OBJECTS)),
        (checker.LEFTOVER, [UPLOAD, RACED], FinalState((), OBJECTS)),
        (checker.LEFTOVER, [UPLOAD, DELETE], LATE_ORIGINAL),
        (checker.LEFTOVER, [UPLOAD, REPLACE, DELETE], LATE_ORIGINAL),
        (checker.LEFTOVER, [UPLOAD, unknown(REPLACE), DELETE], FinalState((), OBJECTS)),
        (checker.TWICE, [UPLOAD], FinalState((FOUND, FOUND), OBJECTS)),
        (checker.TWICE, [UPLOAD], FinalState((FOUND, replace(FOUND, image_id="b")), OBJECTS)),
        (checker.PHANTOM, [UPLOAD], FinalState((FOUND, replace(FOUND, image_id="b", served_sha256="zz")), OBJECTS)),
        (checker.ORPHAN, [], FinalState((), OBJECTS)),
        (checker.ORPHAN, [], FinalState((), frozenset({"images/b/r/original.png"}))),
        (checker.UNREADABLE, [UPLOAD], FinalState((FOUND,), OBJECTS, unreadable=frozenset({"a"}))),
        (checker.DEAD_LETTER, [UPLOAD], FinalState((FOUND,), OBJECTS, dead_letters=1)),
    ],
)
def test_each_violated_rule_is_found(rule: str, history: list[Operation], state: FinalState) -> None:
    assert rule in rules(history, state)


def test_served_means_an_upload_sent_and_acknowledged_in_that_time() -> None:
    assert served([UPLOAD], 0.5, 2.5)
    assert not served([UPLOAD], 1.5, 2.5), "it was sent before"
    assert not served([UPLOAD], 0.5, 1.5), "it was acknowledged after"
    assert not served([unknown(UPLOAD), replace(DELETE, started=1.0, ended=2.0)], 0.5, 2.5)


def unexplained_keys(fold: Fold, image_id: UUID, keys: list[str]) -> list[str]:
    now = datetime.now(UTC)
    image = sort_objects(image_id, [ObjectInfo(key, 1, "etag", now) for key in keys])
    found = check_objects(
        fold.images.get(image_id),
        image,
        now=now,
        grace=timedelta(0),
        has_tombstone=True,
        tombstones_stay=timedelta(days=70),
    )
    return [each.where for each in unexplained(fold, list(found)) if each.where.startswith(image_prefix(image_id))]


def test_young_objects_of_a_deleted_image_are_unexplained() -> None:
    fold, upload = Fold(1), uploaded()
    image_id, revision = upload.image_id, upload.revision
    keys = [
        original_key(image_id, revision, "image/jpeg"),
        variant_key(image_id, revision, "d", "full"),
        manifest_key(image_id, revision, "d"),
    ]
    fold.add_command(versioned(upload, 2))
    fold.add_command(versioned(deleted(image_id), 4))
    assert sorted(unexplained_keys(fold, image_id, keys)) == sorted(keys)


def test_only_an_original_may_be_unknown_to_the_log() -> None:
    fold, gone, unsent, late = Fold(1), uploaded(), new_id(), new_id()
    fold.add_command(versioned(gone, 2))
    fold.add_command(versioned(deleted(gone.image_id), 4))
    for image_id in (gone.image_id, unsent):
        assert unexplained_keys(fold, image_id, [original_key(image_id, late, "image/png")]) == []
        rendered = variant_key(image_id, late, "d", "full")
        assert unexplained_keys(fold, image_id, [rendered]) == [rendered]
