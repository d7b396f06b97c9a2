"""What `imagepipe verify` reports as a difference, and what it does not."""

from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import pytest

from ops.bucket.listing import BucketImage, image_in, sort_objects
from ops.checks.differences import Difference, Kind, check_manifests, check_objects, check_row, check_unanswered
from ops.checks.repair import advice
from ops.index.rows import StoredRow, key_in
from ops.log.fold import Fold, ImageState
from shared.contract.events import Manifest, OwnerCleared, Ready, Uploaded
from shared.contract.keys import (
    Owner,
    manifest_key,
    markers_complete_key,
    markers_prefix,
    new_id,
    original_key,
    tombstone_key,
    uploaded_at,
    variant_key,
)
from shared.contract.logged_command import versioned
from shared.ports import ObjectInfo
from shared.read_model.tables import BY_DAY, BY_OWNER, IMAGES
from tests.support.records import OWNER, deleted, failed, ready, uploaded

SHARDS = 4
NOW = datetime(2030, 1, 1, tzinfo=UTC)
OLD = NOW - timedelta(days=2)
STAY = timedelta(days=70)
BOGUS = "f" * 16


class World:
    """One ready image in log and bucket."""

    def __init__(self) -> None:
        self.fold = Fold(1)
        self.command: Uploaded = uploaded()
        self.event: Ready = ready(self.command.image_id, self.command.revision, 10)
        self.fold.add_command(versioned(self.command, 10))
        self.fold.add_event(self.event)
        current = self.event.current
        self.manifest = manifest_key(self.image_id, current.revision, current.render)
        self.keys = [self.command.original.path, current.original.path, self.manifest]
        self.keys += [variant.path for variant in current.variants]

    @property
    def image_id(self) -> UUID:
        return self.command.image_id

    @property
    def state(self) -> ImageState:
        return self.fold.images[self.image_id]

    def row(self, table: str = IMAGES) -> StoredRow:
        state = self.state
        cells = {name: (cell.version, cell.values[0]) for name, cell in state.live().items()}
        key = key_in(table, state.image_id, state.owner, SHARDS)
        return StoredRow(table, key, state.image_id, state.owner, uploaded_at(state.image_id), cells)

    def extra(self, *keys: str, has_tombstone: bool = False) -> set[str]:
        """Keys that are reported as extra in a bucket that has these and the wanted ones."""
        image = sort_objects(self.image_id, [ObjectInfo(key, 1, "", OLD) for key in {*self.keys, *keys}])
        return {each.where for each in self.objects(image, has_tombstone) if each.kind is Kind.EXTRA}

    def objects(self, image: BucketImage, has_tombstone: bool = False) -> list[Difference]:
        grace = timedelta(hours=1)
        return list(
            check_objects(self.state, image, now=NOW, grace=grace, has_tombstone=has_tombstone, tombstones_stay=STAY)
        )


@pytest.fixture
def world() -> World:
    return World()


def kinds(found: Iterator[Difference]) -> list[tuple[Kind, str]]:
    return [(each.kind, each.where) for each in found]


def test_every_column_of_a_row_is_compared(world: World) -> None:
    row = world.row()
    assert kinds(check_row(world.state, row, SHARDS)) == []
    changes: dict[str, Any] = {
        "owner": Owner(type="user", id="another"),
        "uploaded_at": uploaded_at(world.image_id) + timedelta(seconds=1),
    }
    for name, value in changes.items():
        assert kinds(check_row(world.state, replace(row, **{name: value}), SHARDS)) == [(Kind.WRONG, IMAGES)]
    assert kinds(check_row(world.state, replace(row, uploaded_at=None), SHARDS)) == [(Kind.WRONG, IMAGES)]


@pytest.mark.parametrize("table", [BY_OWNER, BY_DAY])
def test_row_in_an_unread_partition_is_extra_and_names_the_partition(world: World, table: str) -> None:
    row = world.row(table)
    elsewhere = replace(row, key=("another", *row.key[1:]))
    [found] = check_row(world.state, elsewhere, SHARDS)
    assert (found.kind, found.where, found.key) == (Kind.EXTRA, table, elsewhere.key)
    assert "another" in found.detail


def test_wanted_objects_are_no_difference(world: World) -> None:
    assert world.extra() == set()


def test_objects_that_the_log_does_not_name_are_extra(world: World) -> None:
    image, revision, render = world.image_id, world.command.revision, world.event.current.render
    second = next(
        key
        for kind in ("image/png", "image/webp")
        if (key := original_key(image, revision, kind)) != world.command.original.path
    )
    wrong = {
        variant_key(image, revision, render, "huge"),
        variant_key(image, revision, BOGUS, "small"),
        second,
        f"images/{image}/notes.txt",
    }
    assert world.extra(*wrong) == wrong


def test_objects_of_a_render_that_may_still_run_are_no_difference(world: World) -> None:
    asked = variant_key(world.image_id, world.command.revision, world.command.ladder.digest, "small")
    superseded = variant_key(world.image_id, world.command.revision, BOGUS, "small")
    its_manifest = manifest_key(world.image_id, world.command.revision, BOGUS)
    assert world.extra(asked, superseded, its_manifest) == set()


def test_a_marker_without_a_manifest_is_no_difference(world: World) -> None:
    """It has no effect, and stays where an operator has deleted a damaged render."""
    marker = Manifest(render=world.event.current.render, event=world.event).marker
    unfounded = marker._replace(render=BOGUS)
    assert world.extra(marker.key, unfounded.key, markers_complete_key(world.image_id)) == set()


def test_complete_markers_without_that_of_the_served_render_are_a_difference(world: World) -> None:
    marker = Manifest(render=world.event.current.render, event=world.event).marker
    other = marker._replace(version=marker.version + 2, render=BOGUS)
    complete = markers_complete_key(world.image_id)

    def missing(*keys: str) -> bool:
        image = sort_objects(world.image_id, [ObjectInfo(key, 1, "", OLD) for key in {*world.keys, *keys}])
        return (Kind.MISSING, markers_prefix(world.image_id)) in kinds(iter(world.objects(image)))

    assert missing(complete)
    assert missing(complete, other.key)
    assert not missing(complete, other.key, marker.key)
    assert not missing(), "an image that an earlier version has stored has no markers"


def test_tombstone_is_missing_until_it_may_have_expired(world: World) -> None:
    def missing(age: timedelta) -> bool:
        state = World()
        state.fold.add_command(versioned(deleted(state.image_id), 30), int((NOW - age).timestamp() * 1000))
        found = state.objects(BucketImage(state.image_id))
        return kinds(iter(found)) == [(Kind.MISSING, "tombstones/")]

    assert missing(timedelta(0))
    assert missing(STAY - timedelta(days=1))
    assert not missing(STAY + timedelta(days=1))


def test_id_in_another_notation_is_not_an_image() -> None:
    image_id = new_id()
    for folder in (image_id.hex, str(image_id).upper(), "notes"):
        key = f"images/{folder}/a.txt"
        image = image_in(folder, [ObjectInfo(key, 1, "", OLD)])
        assert image.image_id.int == 0
        assert [info.key for info in image.misnamed] == [key]


def test_served_manifest_must_contain_the_same_answer(world: World) -> None:
    render = world.event.current.render
    other = failed(world.image_id, world.command.revision, 10)
    good = {world.manifest: Manifest(render=render, event=world.event)}
    bad = {world.manifest: Manifest(render=render, event=other)}
    assert kinds(check_manifests(world.state, good)) == []
    assert kinds(check_manifests(world.state, bad)) == [(Kind.WRONG, world.manifest)]


@pytest.mark.parametrize(
    ("fence", "takes"),
    [
        (OwnerCleared(owner=OWNER), True),
        (OwnerCleared(owner=OWNER, before=11), True),
        (OwnerCleared(owner=OWNER, before=10), False),
    ],
)
def test_fence_that_was_not_carried_out_is_found(world: World, fence: OwnerCleared, takes: bool) -> None:
    expected = [(Kind.UNANSWERED, "fence")] if takes else []
    assert kinds(check_unanswered(world.state, {20: fence}, {})) == expected
    kept = fence.model_copy(update={"keep": (world.image_id,)})
    assert kinds(check_unanswered(world.state, {20: kept}, {})) == []
    world.fold.add_command(versioned(deleted(world.image_id), 30))
    assert kinds(check_unanswered(world.state, {20: fence}, {})) == []


def test_upload_after_a_fence_is_not_deleted_by_it(world: World) -> None:
    assert kinds(check_unanswered(world.state, {9: OwnerCleared(owner=OWNER)}, {})) == []


def test_unanswered_command_in_the_dlq_is_marked() -> None:
    fold, command = Fold(1), uploaded()
    fold.add_command(versioned(command, 10))
    fold.add_command(versioned(OwnerCleared(owner=OWNER), 20))
    state = fold.images[command.image_id]
    fences = fold.fences[OWNER.key]
    found = list(check_unanswered(state, fences, {10: "0:1", 20: "0:2"}))
    assert kinds(iter(found)) == [(Kind.UNANSWERED, "dlq")] * 2
    assert ["0:1" in found[0].detail, "0:2" in found[1].detail] == [True, True]
    assert "dlq" in advice(found[0])
    fold.drop(str(command.image_id), 10)
    fold.drop(OWNER.key, 20)
    assert kinds(check_unanswered(state, fences, {})) == []


@pytest.mark.parametrize(
    ("difference", "words"),
    [
        ((Kind.MISSING, "{variant}"), "reprocess --where all"),
        ((Kind.CHECKSUM, "{variant}"), "reprocess --where all"),
        ((Kind.WRONG, "{manifest}"), "delete {folder}/"),
        ((Kind.MISSING, "{manifest}"), "reprocess --where all"),
        ((Kind.MISSING, "{original}"), "copy of the bucket"),
        ((Kind.EXTRA, "{original}"), "gc"),
        ((Kind.EXTRA, "tombstones/"), "DELETE"),
        ((Kind.WRONG, "{tombstone}"), "delete this object"),
        ((Kind.UNANSWERED, "{manifest}"), "replay"),
        ((Kind.UNANSWERED, "log"), "replay"),
        ((Kind.UNANSWERED, "fence"), "clear the owner"),
        ((Kind.EXTRA, BY_OWNER), "reindex"),
    ],
)
def test_each_kind_of_difference_has_advice(world: World, difference: tuple[Kind, str], words: str) -> None:
    places = {
        "variant": world.event.current.variants[0].path,
        "manifest": world.manifest,
        "folder": world.manifest.removesuffix("/manifest.json"),
        "original": world.command.original.path,
        "tombstone": tombstone_key(world.image_id),
    }
    kind, where = difference
    assert words.format(**places) in advice(Difference(kind, where.format(**places), world.image_id, ""))
