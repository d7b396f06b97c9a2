"""The fold gives for each image the state that the index must hold, for any order of the records."""

import random
from dataclasses import replace

from ops.checks.differences import Kind, check_row, check_unanswered, missing_rows, wanted_objects
from ops.index.rows import StoredRow, key_in, state_writes
from ops.log.fold import Fold
from ops.replaying.finished import Asked, Snapshot
from shared.contract.events import Event, Removed
from shared.contract.keys import Owner, answer_version, manifest_key, new_id, uploaded_at
from shared.contract.logged_command import LoggedRenderCommand, versioned
from shared.read_model.tables import BY_DAY, BY_OWNER, IMAGES, command_writes, event_writes
from tests.support.memory.ports import MemoryIndex
from tests.support.records import OWNER, deleted, failed, ready, replaced, uploaded

TABLES = (IMAGES, BY_OWNER, BY_DAY)
SHARDS = 4


def _stored(fold: Fold, image_id: object) -> dict[str, StoredRow]:
    """Rows as Cassandra would hold them after the writes of a state."""
    (state,) = [each for each in fold if each.image_id == image_id]
    return {
        table: StoredRow(
            table, key_in(table, state.image_id, state.owner, SHARDS), state.image_id, state.owner,
            uploaded_at(state.image_id),
            {name: (cell.version, cell.values[0]) for name, cell in state.live().items()},
        )
        for table in TABLES
    }  # fmt: skip


def _history() -> tuple[list[LoggedRenderCommand], list[Event]]:
    first = uploaded()
    second = replaced(first.image_id, 10)
    commands = [LoggedRenderCommand(first, 10), LoggedRenderCommand(second, 20)]
    events: list[Event] = [
        ready(first.image_id, first.revision, 10),
        failed(first.image_id, second.revision, 20, answers="image.replaced", image_version=10),
    ]
    return commands, events


def test_order_of_records_makes_no_difference() -> None:
    commands, events = _history()
    states = []
    for seed in range(20):
        fold = Fold(1)
        records: list[LoggedRenderCommand | Event] = [*commands, *events]
        random.Random(seed).shuffle(records)
        for record in records:
            if isinstance(record, LoggedRenderCommand):
                fold.add_command(record)
            else:
                fold.add_event(record)
        (state,) = fold
        # Values that differ at one version are kept as alternatives; their order has no meaning.
        states.append({name: (cell.version, sorted(map(repr, cell.values))) for name, cell in state.cells.items()})
    assert all(each == states[0] for each in states)


def test_the_writes_of_a_state_are_the_rows_that_the_records_give() -> None:
    commands, events = _history()
    fold, one_by_one, folded = Fold(1), MemoryIndex(), MemoryIndex()

    for logged in commands:
        fold.add_command(logged)
        for write in command_writes(logged, SHARDS):
            one_by_one.apply_one(write)
    for event in events:
        fold.add_event(event)
        for write in event_writes(event, SHARDS):
            one_by_one.apply_one(write)
    for state in fold:
        for write in state_writes(state, SHARDS):
            folded.apply_one(write)
    for table in TABLES:
        assert folded.table(table) == one_by_one.table(table)


def test_ghost_has_the_same_row_in_a_rebuild_and_is_a_removed_image() -> None:
    """A replacement behind the deletion of its image, not answered yet."""
    image_id = new_id()
    commands = [
        versioned(uploaded(image_id), 10),
        versioned(deleted(image_id), 20),
        versioned(replaced(image_id, 10), 30),
    ]
    fold, live, rebuilt = Fold(1), MemoryIndex(), MemoryIndex()
    for logged in commands:
        fold.add_command(logged)
        for write in command_writes(logged, SHARDS):
            live.apply_one(write)
    (state,) = fold
    for write in state_writes(state, SHARDS):
        rebuilt.apply_one(write)
    assert state.is_removed
    assert list(check_unanswered(state, {}, {})) == []
    for table in TABLES:
        assert live.table(table) == rebuilt.table(table)
        [row] = rebuilt.table(table).values()
        assert row.keys() & {"image_version", "uploaded_at", "request"} == {"request"}
    # The row has no owner column, and is as the log says.
    ghost = replace(_stored(fold, image_id)[IMAGES], owner=Owner.of_image(image_id), uploaded_at=None)
    assert list(check_row(state, ghost, SHARDS)) == []
    restored = replace(ghost, uploaded_at=uploaded_at(image_id), cells={**ghost.cells, "image_version": (10, 10)})
    assert [each.kind for each in check_row(state, restored, SHARDS)] == [Kind.WRONG, Kind.EXTRA]


def test_a_row_is_clean_stale_missing_wrong_or_extra() -> None:
    commands, events = _history()
    fold = Fold(1)
    for logged in commands:
        fold.add_command(logged)
    (state,) = fold
    early = _stored(fold, state.image_id)[IMAGES]
    assert sorted(state.unanswered) == [10, 20]
    assert [each.kind for each in check_unanswered(state, {}, {})] == [Kind.UNANSWERED] * 2
    for event in events:
        fold.add_event(event)
    assert list(check_unanswered(state, {}, {})) == []
    row = _stored(fold, state.image_id)[IMAGES]
    assert list(check_row(state, row, SHARDS)) == []
    assert {each.kind for each in check_row(state, early, SHARDS)} == {Kind.STALE}
    late = replace(row, cells={**row.cells, "outcome": (99, None)})
    assert [each.kind for each in check_row(state, late, SHARDS)] == [Kind.WRONG]
    assert [each.where for each in missing_rows(state, [IMAGES])] == [BY_OWNER, BY_DAY]
    assert [each.kind for each in check_row(None, row, SHARDS)] == [Kind.EXTRA]
    fold.add_command(versioned(deleted(state.image_id), 30))
    assert state.is_removed
    assert list(missing_rows(state, [])) == []
    assert [each.kind for each in check_row(state, row, SHARDS)] == [Kind.EXTRA]


def test_wanted_objects_are_the_served_render_and_the_requested_original() -> None:
    commands, events = _history()
    fold = Fold(1)
    for logged in commands:
        fold.add_command(logged)
    for event in events:
        fold.add_event(event)
    (state,) = fold
    wanted = dict(wanted_objects(state))
    originals = {logged.command.original.path for logged in commands}
    assert originals <= wanted.keys()
    assert any(key.endswith("/manifest.json") for key in wanted)


def test_finished_commands_have_an_answer_in_log_and_bucket() -> None:
    command = uploaded()
    image, own = command.image_id, manifest_key(command.image_id, command.revision, command.ladder.digest)
    asked = Asked((0, 10), 0, command.type, image, 10, own)
    told = {(image, 10)}
    assert Snapshot(told, {own}, {image}).is_finished(asked)
    assert not Snapshot(set(), {own}, {image}).is_finished(asked)
    assert not Snapshot(told, set(), {image}).is_finished(asked)
    assert not Snapshot({(image, 11), (new_id(), 10)}, {own}, {image}).is_finished(asked)
    assert Snapshot(tombstones={image}).is_finished(asked)
    removal = Asked((0, 10), 0, "image.deleted", image, 10, None)
    assert Snapshot(told, set(), set(), {image}).is_finished(removal)
    assert not Snapshot(told, set(), {image}, {image}).is_finished(removal)
    assert not Snapshot(set(), set(), set(), {image}).is_finished(removal)


def test_a_late_answer_to_a_deleted_image_stays_below_its_deletion() -> None:
    command = uploaded()
    fold = Fold(1)
    fold.add_event(ready(command.image_id, command.revision, 10))
    fold.add_event(
        Removed(
            image_id=command.image_id,
            owner=OWNER,
            version=20,
            answers="image.deleted",
            removed_version=answer_version(20),
        )
    )
    (state,) = fold
    assert state.is_removed
    assert {write.version for write in state_writes(state, SHARDS)} == {21}
