"""`Index` is one contract: these tests run against Cassandra and against the index in memory."""

import itertools
import random
from collections.abc import AsyncIterator, Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from cassandra import InvalidRequest
from cassandra.cluster import Session

from ops.index.rows import Rows
from ops.log.fold import pack
from shared.cassandra.deployment import check_deployment, record_keyspace
from shared.cassandra.index import CassandraIndex
from shared.cassandra.schema import apply_schema
from shared.cassandra.session import connect
from shared.contract.events import SupersededBy
from shared.contract.keys import DayShard, Owner, day_of, new_id, shard_of
from shared.contract.logged_command import versioned
from shared.errors import ConfigurationError, Unavailable
from shared.ports import DayIds, Index
from shared.read_model.documents import status
from shared.read_model.tables import (
    FENCES,
    IMAGES,
    Delete,
    Outcome,
    RowWriter,
    Update,
    Write,
    command_writes,
    event_writes,
    owner_key,
)
from shared.settings import Settings
from tests.support import records
from tests.support.ghosts import ghost_writes, images_below_ghosts
from tests.support.isolation import isolated
from tests.support.memory.ports import MemoryIndex

SHARDS = 4


@pytest.fixture(scope="module")
def keyspace(engines: Settings) -> Iterator[Settings]:
    with isolated(engines, keyspace=True) as settings:
        yield settings


@pytest.fixture(scope="module")
def session(keyspace: Settings) -> Iterator[Session]:
    found = connect(keyspace, keyspace.cassandra_keyspace)
    yield found
    found.cluster.shutdown()


@pytest.fixture(params=["memory", "cassandra"])
async def index(request: pytest.FixtureRequest) -> AsyncIterator[Index]:
    if request.param == "memory":
        yield MemoryIndex()
    else:
        yield CassandraIndex(request.getfixturevalue("session"))


@pytest.fixture
def owner() -> Owner:
    return Owner(type="user", id=str(new_id()))


async def test_rows_of_an_earlier_release_are_shown_until_they_are_written_again(
    session: Session, owner: Owner
) -> None:
    """Earlier releases wrote column groups as user-defined types."""
    image, index = new_id(), CassandraIndex(session)
    old, new = records.ready(image, new_id(), 10, owner=owner), records.ready(image, new_id(), 20, owner=owner)
    await index.apply(RowWriter(image, owner, SHARDS, [IMAGES]).updates(10, []))
    for name, value in (("request", old.request), ("current", old.current)):
        cql = f"UPDATE images USING TIMESTAMP 10 SET {name} = fromJson(?) WHERE image_id = ?"
        await index.execute(cql, [value.model_dump_json(), image])
    found = await index.image(image)
    assert found is not None
    assert (found.request, found.outcome, found.current) == (old.request, None, old.current)
    [stored] = await Rows(session).of_image(image, owner, SHARDS)
    assert stored.cells == {
        "image_version": (10, 10), "request": (10, pack(old.request)), "current": (10, pack(old.current))
    }  # fmt: skip

    await index.apply(event_writes(new, SHARDS))
    found = await index.image(image)
    assert found is not None
    assert (found.request, found.current) == (new.request, new.current)
    await index.apply(RowWriter(image, owner, SHARDS).deletes(10_000))
    assert await index.image(image) is None


async def test_every_column_is_read_as_it_was_written(index: Index, owner: Owner) -> None:
    image, revision = new_id(), new_id()
    event = records.ready(image, revision, 10, owner=owner)
    event = event.model_copy(update={"current": event.current.model_copy(update={"notes": ("first_frame",)})})
    await index.apply(event_writes(event, SHARDS))
    found = await index.image(image)
    assert found is not None
    assert (found.image_id, found.owner, found.image_version) == (image, owner, 10)
    assert found.uploaded_at.tzinfo is UTC
    assert abs(found.uploaded_at - datetime.now(UTC)) < timedelta(minutes=1)
    assert found.request == event.request
    assert found.current == event.current
    assert found.outcome == Outcome(revision, "ready")
    day = await index.rows(DayShard(day_of(image), shard_of(image, SHARDS)), [image])
    assert [found] == list(await index.of_owner(owner)) == list(day)
    assert day_of(image) in await index.days()


async def test_unset_columns_stay_unset(index: Index, owner: Owner) -> None:
    image = new_id()
    assert await index.image(image) is None
    await index.apply(command_writes(versioned(records.uploaded(image, owner=owner), 10), SHARDS))
    found = await index.image(image)
    assert found is not None
    assert (found.outcome, found.current) == (None, None)
    await index.apply(event_writes(records.failed(image, new_id(), 4, owner=owner), SHARDS))
    again = await index.image(image)
    assert again is not None
    assert again.request == found.request
    assert again.outcome is not None
    assert again.outcome.error_type == "truncated"


async def test_writes_in_any_order_give_one_row(index: Index, owner: Owner) -> None:
    """Upload, replacement, late answers, deletion and a replacement after it, in every order of the records."""
    rng = random.Random(5)
    orders = list(itertools.permutations(range(5)))
    for order in rng.sample(orders, 20):
        image, first, second = new_id(), new_id(), new_id()
        by = SupersededBy(revision=second, revision_version=14, render="0" * 16)
        steps: list[list[Write]] = [
            command_writes(versioned(records.uploaded(image, first, owner), 10), SHARDS),
            event_writes(records.ready(image, first, 10, owner=owner), SHARDS),
            command_writes(versioned(records.replaced(image, 10, second, owner), 14), SHARDS),
            event_writes(records.ready(image, second, 14, image_version=10, owner=owner), SHARDS),
            event_writes(records.superseded(image, first, 10, by, owner=owner), SHARDS),
        ]
        for position in order:
            await index.apply(steps[position])
        found = await index.image(image)
        assert found is not None
        assert found.request is not None
        assert found.current is not None
        assert (found.request.revision, found.current.revision, status(found)) == (second, second, "ready")


async def test_deletion_shadows_what_was_written_before_it(index: Index, owner: Owner) -> None:
    image, revision = new_id(), new_id()
    await index.apply(event_writes(records.removed(image, 12, owner=owner), SHARDS))
    await index.apply(event_writes(records.ready(image, revision, 10, owner=owner), SHARDS))
    assert await index.image(image) is None
    assert list(await index.of_owner(owner)) == []
    # A write at the deletion's own version is shadowed too.
    await index.apply([Update(IMAGES, {"image_id": image}, {"image_version": 10}, 13)])
    assert await index.image(image) is None
    # Only a repetition of the upload can be above the deletion. It makes the image exist again, without its results.
    await index.apply(command_writes(versioned(records.uploaded(image, revision, owner), 14), SHARDS))
    found = await index.image(image)
    assert found is not None
    assert (found.image_version, found.current) == (14, None)


async def test_the_highest_bound_of_all_fences_is_recorded(index: Index, owner: Owner) -> None:
    other = Owner(type="user", id=str(new_id()))
    assert await index.cleared_before(owner) == 0
    for before, version in ((None, 20), (16, 30), (None, 24), (10, 40)):
        await index.apply(command_writes(versioned(records.cleared(before, owner=owner), version), SHARDS))
    await index.apply(command_writes(versioned(records.cleared(keep=(new_id(),), owner=owner), 50), SHARDS))
    assert await index.cleared_before(owner) == 24
    assert await index.cleared_before(other) == 0
    await index.apply([Delete(FENCES, owner_key(owner), 26)])
    await index.apply(command_writes(versioned(records.cleared(owner=owner), 26), SHARDS))
    assert await index.cleared_before(owner) == 0
    await index.apply(command_writes(versioned(records.cleared(owner=owner), 28), SHARDS))
    assert await index.cleared_before(owner) == 28


async def test_slices_are_newest_first_and_exclude_their_bounds(index: Index, owner: Owner) -> None:
    # An owner's partition and a day's give the same slices; the day is one that no other test writes to.
    start = datetime(2031, 1, 1, tzinfo=UTC) + timedelta(days=random.randrange(20_000))
    ids = [records.id_at(start + timedelta(seconds=n), n) for n in range(60)]
    random.shuffle(ids)
    for image in ids:
        await index.apply(command_writes(versioned(records.uploaded(image, owner=owner), 10), SHARDS))
    ids.sort(reverse=True)
    shard = shard_of(ids[0], SHARDS)
    of_shard = [image for image in ids if shard_of(image, SHARDS) == shard]
    assert [row.image_id for row in await index.of_owner(owner)] == ids[:50]
    assert [row.image_id for row in await index.of_owner(owner, below=ids[9], limit=7)] == ids[10:17]
    assert [row.image_id for row in await index.of_owner(owner, above=ids[9])] == ids[:9]
    assert [row.image_id for row in await index.of_owner(owner, below=ids[4], above=ids[9])] == ids[5:9]
    day = start.date()
    assert await index.ids(DayShard(day, shard)) == of_shard
    assert {row.image_id for row in await index.rows(DayShard(day, shard), of_shard)} == set(of_shard)
    for partition, expected in ((owner, ids), (DayShard(day, shard), of_shard)):
        assert await index.ids(partition, below=expected[1], limit=3) == expected[2:5]
        assert await index.ids(partition, above=expected[3], limit=100) == expected[:3]
        assert await index.count(partition) == len(expected)
        assert await index.count(partition, below=expected[1], above=expected[5]) == 3
        rows = await index.rows(partition, [expected[3], expected[0], new_id()])
        assert {row.image_id for row in rows} == {expected[3], expected[0]}
        assert list(await index.rows(partition, [])) == []


async def test_write_behind_a_deletion_leaves_a_ghost_that_is_no_image(index: Index, owner: Owner) -> None:
    image = new_id()
    await index.apply(ghost_writes(image, owner, SHARDS))
    assert await index.image(image) is None
    # Neither does any answer bring it back.
    await index.apply(event_writes(records.ready(image, new_id(), 30, image_version=10, owner=owner), SHARDS))
    for partition in (owner, DayShard(day_of(image), shard_of(image, SHARDS))):
        assert await index.rows(partition, [image]) == []
        assert image not in await index.ids(partition)
    assert await index.image(image) is None
    assert await index.row_ids(owner) == [image]
    # The answer of the processor removes the ghost.
    removed = records.removed(image, 30, answers="image.replaced", owner=owner)
    await index.apply(event_writes(removed, SHARDS))
    assert await index.row_ids(owner) == []


async def test_ghosts_do_not_break_paging(index: Index, owner: Owner) -> None:
    day = datetime(2031, 1, 1) + timedelta(days=random.randrange(20_000))
    images, ghosts = await images_below_ghosts(index, owner, SHARDS, day)
    assert [row.image_id for row in await index.of_owner(owner, limit=2)] == images[:2]
    assert [row.image_id for row in await index.of_owner(owner)] == images
    assert await index.ids(owner, limit=1) == images[:1]
    assert await index.ids(owner, below=ghosts[100]) == images
    assert await index.ids(owner, above=ghosts[-1]) == []
    assert await index.count(owner) == len(images)
    assert await index.row_ids(owner, limit=1000) == [*ghosts, *images]
    assert await index.row_ids(owner, below=ghosts[-1], limit=2) == images[:2]
    shards = [DayShard(day.date(), shard) for shard in range(SHARDS)]
    assert sorted([each for shard in shards for each in await index.ids(shard, limit=3)], reverse=True) == images
    assert sum([await index.count(shard) for shard in shards]) == len(images)
    # The newest rows of each shard are ghosts, so each shard may have images below them.
    newest = await index.ids_of_days([day.date()], SHARDS, limit=5)
    assert newest == DayIds({shard: [] for shard in shards}, set(shards))
    everything = await index.ids_of_days([day.date()], SHARDS, limit=500)
    found = [image_id for ids in everything.ids.values() for image_id in ids]
    assert (sorted(found, reverse=True), everything.partial) == (images, set())
    assert {row.image_id for row in await index.rows_of_days([day.date()], SHARDS, [*images, *ghosts])} == set(images)


async def test_days_are_newest_first(index: Index, owner: Owner) -> None:
    moments = [datetime(2029, 5, day, 12, tzinfo=UTC) for day in (3, 1, 2)]
    for moment in moments:
        await index.apply(
            command_writes(versioned(records.uploaded(records.id_at(moment, 1), owner=owner), 10), SHARDS)
        )
    found = await index.days()
    assert list(found) == sorted(set(found), reverse=True)
    assert {moment.date() for moment in moments} <= set(found)


async def test_many_concurrent_writes_are_stored(index: Index, owner: Owner) -> None:
    writes = [
        write for _ in range(300) for write in command_writes(versioned(records.uploaded(owner=owner), 10), SHARDS)
    ]
    await index.apply(writes)
    assert await index.count(owner) == 300


async def test_schema_migrates_every_keyspace_of_the_deployment(keyspace: Settings, session: Session) -> None:
    """An erasure needs the tables of the present version in a keyspace that an earlier version has built."""
    older = keyspace.model_copy(update={"cassandra_keyspace": f"{keyspace.cassandra_keyspace}_old", "day_shards": 2})
    apply_schema(older)
    record_keyspace(session, keyspace, older.cassandra_keyspace)
    session.execute(f"DROP TABLE {older.cassandra_keyspace}.{FENCES}")
    session.execute(f"DELETE FROM {older.cassandra_keyspace}.schema_migrations WHERE name = '0002_owner_fences'")
    assert apply_schema(keyspace) == []
    index = await CassandraIndex.open(older, older.cassandra_keyspace)
    assert await index.cleared_before(Owner(type="user", id="1")) == 0
    await index.close()


async def test_schema_is_applied_once_and_guards_its_fixed_settings(keyspace: Settings, session: Session) -> None:
    assert apply_schema(keyspace) == []
    with pytest.raises(ConfigurationError, match="DAY_SHARDS=4"):
        check_deployment(session, keyspace.model_copy(update={"day_shards": 5}))


async def test_unreachable_cassandra_is_unavailable(engines: Settings) -> None:
    nowhere = engines.model_copy(update={"cassandra_port": 1, "cassandra_contact_points": ("127.0.0.1",)})
    with pytest.raises(Unavailable, match="cassandra"):
        await CassandraIndex.open(nowhere)
    with pytest.raises(Unavailable, match="cassandra"):
        await CassandraIndex().check()


async def test_values_that_cassandra_refuses_are_no_outage(session: Session) -> None:
    """Retrying them would block a partition permanently: as after any unexpected error, the record goes to the DLQ."""
    upload, answer = versioned(records.uploaded(), 10), records.ready(new_id(), new_id(), 10)
    # Several writes to one row, as the answer has them, are one batch.
    for writes in (command_writes(upload, SHARDS), event_writes(answer, SHARDS)):
        out_of_bounds = [replace(write, version=-(2**63)) for write in writes]
        with pytest.raises(InvalidRequest, match="Out of bound"):
            await CassandraIndex(session).apply(out_of_bounds)


async def test_missing_table_is_an_outage(engines: Settings) -> None:
    with isolated(engines, keyspace=True) as settings:
        session = connect(settings, settings.cassandra_keyspace)
        index = CassandraIndex(session)
        writes = command_writes(versioned(records.uploaded(), 10), SHARDS)
        await index.apply(writes)
        session.execute(f"DROP TABLE {IMAGES}", timeout=60)
        # Twice: of a statement that was prepared before, and of one that cannot be prepared any more.
        for _ in range(2):
            with pytest.raises(Unavailable, match="apply the schema"):
                await index.apply(writes)
        await index.close()


async def test_missing_keyspace_reports_what_to_do(engines: Settings) -> None:
    with pytest.raises(ConfigurationError, match="keyspace not_there does not exist"):
        await CassandraIndex.open(engines.model_copy(update={"cassandra_keyspace": "not_there"}))
