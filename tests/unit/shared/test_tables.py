"""Log to rows: what each record writes, where, and at which version."""

import re
from datetime import UTC, datetime
from typing import Any

import pytest

from shared.cassandra.schema import MIGRATIONS
from shared.contract.events import Answer, Command, Event, Superseded, SupersededBy
from shared.contract.keys import shard_of
from shared.contract.logged_command import LoggedRenderCommand, versioned
from shared.read_model.tables import (
    BY_DAY,
    BY_OWNER,
    DAYS,
    DAYS_BUCKET,
    FENCES,
    IMAGES,
    PRIMARY_KEYS,
    Delete,
    Insert,
    Outcome,
    Update,
    Write,
    command_writes,
    event_writes,
)
from tests.support import records
from tests.support.records import OWNER, id_at

MOMENT = datetime(2026, 3, 1, 23, 59, 59, 500_000, UTC)
IMAGE, REVISION = id_at(MOMENT, 1), id_at(MOMENT, 2)
SHARDS = 4
KEYS: dict[str, dict[str, Any]] = {
    IMAGES: {"image_id": IMAGE},
    BY_OWNER: {"owner_type": "user", "owner_id": "1", "image_id": IMAGE},
    BY_DAY: {"day": MOMENT.date(), "shard": shard_of(IMAGE, SHARDS), "image_id": IMAGE},
}


def existence(image_version: int) -> dict[str, Any]:
    return {"owner_type": "user", "owner_id": "1", "uploaded_at": MOMENT, "image_version": image_version}


def expected_updates(version: int, **columns: object) -> list[Write]:
    return [
        Update(table, key, {name: value for name, value in columns.items() if name not in key}, version)
        for table, key in KEYS.items()
    ]


def expected_deletes(version: int) -> list[Write]:
    return [Delete(table, key, version) for table, key in KEYS.items()]


def day_at(version: int) -> Write:
    return Insert(DAYS, {"bucket": DAYS_BUCKET, "day": MOMENT.date()}, version)


@pytest.mark.parametrize(
    "writes",
    [
        command_writes(versioned(records.replaced(IMAGE, 6, REVISION), 10), SHARDS),
        event_writes(records.ready(IMAGE, REVISION, 10, answers="image.replaced", image_version=6), SHARDS),
        event_writes(records.failed(IMAGE, REVISION, 10, answers="image.replaced", image_version=6), SHARDS),
        event_writes(
            records.ready(IMAGE, REVISION, 10, answers="image.reprocess", image_version=6, revision_version=8), SHARDS
        ),
    ],
    ids=["replaced", "ready", "failed", "reprocess is ready"],
)
def test_every_record_makes_the_image_exist_at_its_own_version(writes: list[Write]) -> None:
    """Invariant 6: above it is every deletion, so a record behind a deletion cannot bring the image back."""
    updates = [write for write in writes if isinstance(write, Update)]
    for update in expected_updates(6, **existence(6)):
        assert update in updates
    assert all(not write.columns.keys() & existence(6).keys() for write in updates if write.version != 6)


def test_upload_writes_existence_and_request_at_once() -> None:
    logged = LoggedRenderCommand(records.uploaded(IMAGE, REVISION), 10)
    expected = expected_updates(10, **existence(10), request=logged.request)
    assert command_writes(logged, SHARDS) == [day_at(10), *expected]


def test_replacement_writes_the_request_at_its_version() -> None:
    logged = LoggedRenderCommand(records.replaced(IMAGE, 6, REVISION), 10)
    expected = [*expected_updates(6, **existence(6)), *expected_updates(10, request=logged.request)]
    assert command_writes(logged, SHARDS) == [day_at(10), *expected]


def test_delete_removes_the_row_everywhere() -> None:
    assert command_writes(versioned(records.deleted(IMAGE), 10), SHARDS) == expected_deletes(10)


@pytest.mark.parametrize(("before", "bound"), [(None, 10), (4, 4)])
def test_a_fence_writes_its_bound_at_its_bound(before: int | None, bound: int) -> None:
    [write] = command_writes(versioned(records.cleared(before), 10), SHARDS)
    assert isinstance(write, Insert)
    assert (write.table, write.columns["before"], write.version) == (FENCES, bound, bound)


@pytest.mark.parametrize("command", [records.reprocess(IMAGE, 2, REVISION, 2), records.cleared(4, (IMAGE,))])
def test_reprocess_and_fence_that_keeps_images_write_nothing_themselves(command: Command) -> None:
    assert command_writes(versioned(command, 10), SHARDS) == []


def test_ready_writes_request_at_the_command_and_the_rest_after_it() -> None:
    event = records.ready(IMAGE, REVISION, 10)
    assert event_writes(event, SHARDS) == [
        day_at(11),
        *expected_updates(10, **existence(10), request=event.request),
        *expected_updates(11, current=event.current, outcome=Outcome(REVISION, "ready")),
    ]


def test_failed_leaves_current_alone() -> None:
    event = records.failed(IMAGE, REVISION, 10, answers="image.replaced", image_version=6)
    outcome = Outcome(REVISION, "failed", "truncated", "The file ends before the picture does.")
    assert event_writes(event, SHARDS) == [
        day_at(11),
        *expected_updates(6, **existence(6)),
        *expected_updates(10, request=event.request),
        *expected_updates(11, outcome=outcome),
    ]


def superseded() -> Superseded:
    return records.superseded(IMAGE, REVISION, 10, SupersededBy(revision=IMAGE, revision_version=14, render="0" * 16))


def test_superseded_leaves_current_alone() -> None:
    event = superseded()
    assert event_writes(event, SHARDS) == [
        day_at(11),
        *expected_updates(10, **existence(10), request=event.request),
        *expected_updates(11, outcome=Outcome(REVISION, "superseded")),
    ]


def test_reprocess_that_is_ready_writes_current_only() -> None:
    event = records.ready(IMAGE, REVISION, 10, answers="image.reprocess", image_version=2, revision_version=4)
    expected = [*expected_updates(2, **existence(2)), *expected_updates(11, current=event.current)]
    assert event_writes(event, SHARDS) == expected


@pytest.mark.parametrize("event", [records.failed(IMAGE, REVISION, 10), superseded()])
def test_reprocess_that_is_not_ready_writes_nothing(event: Answer) -> None:
    assert event_writes(event.model_copy(update={"answers": "image.reprocess"}), SHARDS) == []  # type: ignore[arg-type]


def test_removed_deletes_at_the_version_it_names() -> None:
    event = records.removed(IMAGE, 10, 21, answers="image.replaced")
    assert event_writes(event, SHARDS) == expected_deletes(21)


@pytest.mark.parametrize(
    "writes",
    [
        command_writes(versioned(records.uploaded(IMAGE, REVISION), 10), SHARDS),
        command_writes(versioned(records.deleted(IMAGE), 10), SHARDS),
        *(
            event_writes(event, SHARDS)
            for event in (
                records.ready(IMAGE, REVISION, 10),
                records.failed(IMAGE, REVISION, 10),
                records.removed(IMAGE, 10),
            )
        ),
    ],
)
def test_every_write_has_its_whole_primary_key_and_no_null(writes: list[Write]) -> None:
    assert writes
    for write in writes:
        key = write.columns if isinstance(write, Insert) else write.key
        assert set(PRIMARY_KEYS[write.table]) <= key.keys()
        # A null would be a tombstone at this version.
        assert isinstance(write, Delete) or None not in write.columns.values()


def test_rows_are_the_same_from_either_topic() -> None:
    """So that a rebuild from the events alone has the request."""
    command = records.uploaded(IMAGE, REVISION)
    event: Event = records.ready(IMAGE, REVISION, 10)
    from_command = [write for write in command_writes(versioned(command, 10), SHARDS) if write.table != DAYS]
    assert all(write in event_writes(event, SHARDS) for write in from_command)
    assert event.owner == OWNER


@pytest.mark.parametrize("table", PRIMARY_KEYS)
def test_the_migrations_declare_the_primary_keys(table: str) -> None:
    migrations = "".join(path.read_text() for path in sorted(MIGRATIONS.glob("*.cql")))
    declared = re.search(rf"CREATE TABLE IF NOT EXISTS {table} \((.*?)\n\)", migrations, re.DOTALL)
    assert declared is not None
    key = re.search(r"PRIMARY KEY \((.*)\)", declared[1]) or re.search(r"(\w+) \w+ PRIMARY KEY", declared[1])
    assert key is not None
    assert tuple(re.findall(r"\w+", key[1])) == PRIMARY_KEYS[table]
