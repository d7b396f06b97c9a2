"""Any log gives the same rows in any order and repetition: thousands of logs, in memory.

What is guaranteed, and tested here:

1. Rows are a function of the *set* of records: any order, any repetition. This holds for any records at all, also for
   those that no processor would write (`test_random_records_converge`).
2. Where two answers differ at one version, the store's tie-break decides a column group. It is the same for all
   orders, so the rows still converge; and once every command has been answered the document does not depend on which
   way ties go: status and what is served are the same (`test_histories_converge`).
3. Compaction of the events topic loses answers that a later one to the same command replaced. Once every command has
   been answered, the document is the same from the whole topic, from a compacted one with the commands, and from a
   compacted one alone (`test_histories_converge`).

What is not: before a command's answer is in the log, two histories of one set of commands may give different documents.
For instance a late worker answers that revision 1 is superseded by the render of revision 2, dies, and compaction drops
the answer that revision 1 was ready before revision 2's answer is published. That state ends with the answer, which
comes, because the command is not acked without it; and compaction waits for seven days.
"""

import random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shared.contract.events import CommandType, Event, OwnerCleared, Removed, SupersededBy, Uploaded
from shared.contract.keys import Owner
from shared.contract.logged_command import LoggedCommand, LoggedDelete, versioned
from shared.read_model.tables import BY_DAY, BY_OWNER, DAYS, FENCES, IMAGES, Delete, event_writes
from tests.convergence.histories import DAY, History, history
from tests.convergence.views import (
    SHARDS,
    compacted,
    fold,
    higher_wins,
    image_id,
    lower_wins,
    rows,
    shuffled,
    told,
    writes_of,
)
from tests.support import records
from tests.support.memory.ports import MemoryIndex, is_image

IMAGE_IDS = [records.id_at(DAY, tail) for tail in range(2)]
REVISIONS = [records.id_at(DAY, 100 + tail) for tail in range(3)]
OWNERS = [Owner(type="user", id="1"), Owner(type="user", id="2")]
SEEDS = st.integers(0, 2**32)

# Few versions, so that many records share one.
versions = st.integers(0, 5).map(lambda step: step * 2)
image_ids = st.sampled_from(IMAGE_IDS)
revisions = st.sampled_from(REVISIONS)
owners = st.sampled_from(OWNERS)
answered: st.SearchStrategy[CommandType] = st.sampled_from(["image.uploaded", "image.replaced", "image.reprocess"])


@st.composite
def commands(draw: st.DrawFn) -> LoggedCommand:
    image_id, revision, owner, version = draw(image_ids), draw(revisions), draw(owners), draw(versions)
    match draw(st.integers(0, 4)):
        case 0:
            return versioned(records.uploaded(image_id, revision, owner), version)
        case 1:
            return versioned(records.replaced(image_id, draw(versions), revision, owner), version)
        case 2:
            return versioned(records.reprocess(image_id, draw(versions), revision, draw(versions), owner), version)
        case 3:
            return versioned(records.deleted(image_id, owner), version)
    keep = draw(st.sampled_from([(), (image_id,)]))
    return versioned(records.cleared(draw(st.none() | versions), keep, owner), version)


@st.composite
def events(draw: st.DrawFn) -> Event:
    image_id, revision, owner, version = draw(image_ids), draw(revisions), draw(owners), draw(versions)
    match draw(st.integers(0, 3)):
        case 0:
            return records.ready(image_id, revision, version, owner=owner, answers=draw(answered))
        case 1:
            return records.failed(image_id, revision, version, owner=owner, answers=draw(answered))
        case 2:
            by = SupersededBy(revision=draw(revisions), revision_version=draw(versions), render="0" * 16)
            return records.superseded(image_id, revision, version, by, owner=owner, answers=draw(answered))
    return records.removed(image_id, version, draw(versions) | 1, owner=owner)


@settings(max_examples=500, deadline=None)
@given(
    st.lists(commands(), max_size=8), st.lists(events(), max_size=12), SEEDS, st.sampled_from([higher_wins, lower_wins])
)
def test_random_records_converge(log, answers, seed, wins_tie) -> None:  # type: ignore[no-untyped-def]
    writes = writes_of(log, answers)
    expected = rows(fold(writes, wins_tie))
    rng = random.Random(seed)
    for _ in range(3):
        # Writes of one record are not applied together either: a crash may come between them.
        pieces = [[write] for record in shuffled(writes, rng) for write in record]
        rng.shuffle(pieces)
        assert rows(fold(pieces, wins_tie)) == expected
    # The owner of an image never changes, so the tables hold the same rows where that is so. In a ghost the owner is a
    # part of the key only.
    if len({logged.command.owner for logged in log} | {answer.owner for answer in answers}) == 1:
        by_id = {image_id: without(row) for (image_id,), row in expected[IMAGES].items()}
        for table in (BY_OWNER, BY_DAY):
            assert {row["image_id"]: without(row) for row in expected[table].values()} == by_id


def without(row: dict[str, Any]) -> dict[str, Any]:
    """The row without the columns that only some of the tables have in their key; of an image with its owner."""
    places = {"day", "shard"} if is_image(row) else {"day", "shard", "owner_type", "owner_id"}
    return {name: value for name, value in row.items() if name not in places}


@settings(max_examples=300, deadline=None)
@given(SEEDS)
async def test_a_deleted_image_is_never_seen_again(seed: int) -> None:
    """In no order of the writes: not between them either, as a client could read then (invariant 6)."""
    found = await history(seed)
    uploaded = max(logged.version for logged in found.commands if isinstance(logged.command, Uploaded))
    writes = [write for record in writes_of(found.commands, found.events) for write in record]
    # A deletion below a repetition of the upload is left out: the image exists until the repetition is answered.
    final = [write for write in writes if isinstance(write, Delete) and write.version > uploaded]
    for order in range(3):
        index, deleted = MemoryIndex(), set[str]()
        for write in shuffled(writes, random.Random(order)):
            index.apply_one(write)
            deleted |= {write.table} if write in final else set()
            assert not any(is_image(row) for table in deleted for row in index.table(table).values())


@settings(max_examples=300, deadline=None)
@given(SEEDS)
async def test_any_answer_alone_makes_the_image_exist(seed: int) -> None:
    """So a rebuild from manifests has every image that has one, also if only a reprocess was ever ready."""
    found = await history(seed)
    uploads = {logged.version for logged in found.commands if isinstance(logged.command, Uploaded)}
    for event in found.events:
        row = await fold([event_writes(event, SHARDS)]).image(image_id(found))
        if not event_writes(event, SHARDS) or isinstance(event, Removed):
            assert row is None
        else:
            assert row is not None
            assert row.image_version in uploads


@settings(max_examples=300, deadline=None)
@given(SEEDS, st.floats(0, 1))
async def test_histories_converge(seed: int, share: float) -> None:
    found = await history(seed)
    writes = writes_of(found.commands, found.events)
    index = fold(writes)
    rng = random.Random(seed)
    for _ in range(2):
        assert rows(fold(shuffled(writes, rng))) == rows(index)
    expected = await told(index, found)
    assert_ends_well(found, expected)
    assert await told(fold(writes, lower_wins), found) == expected
    for upto in {round(share * len(found.events)), len(found.events)}:
        left = compacted(found.events, upto)
        assert await told(fold(writes_of(found.commands, left)), found) == expected
        assert await told(fold(writes_of([], left)), found) == expected


def assert_ends_well(found: History, expected: dict[str, Any] | None) -> None:
    """A deleted image has no document, even after later commands; any other is ready or failed, never processing."""
    if any(isinstance(logged, LoggedDelete) for logged in found.commands):
        assert expected is None
    else:
        assert expected is not None
        assert expected["status"] in ("ready", "failed")


def test_repeated_removal_keeps_a_later_one_after_compaction() -> None:
    """Found by the histories: with one compaction key per image, the replacement's row came back in a rebuild."""
    upload, first = records.uploaded(IMAGE_IDS[0], REVISIONS[0]), 2
    replacement = records.replaced(IMAGE_IDS[0], first, REVISIONS[1])
    log = [versioned(upload, first), versioned(records.deleted(IMAGE_IDS[0]), 4), versioned(replacement, 6)]
    answers = [
        records.removed(IMAGE_IDS[0], 4, 5),
        records.removed(IMAGE_IDS[0], 6, 7, answers="image.replaced"),
        records.removed(IMAGE_IDS[0], 2, 5, answers="image.uploaded"),
    ]
    left = compacted(answers, len(answers))
    assert rows(fold(writes_of(log, left)))[IMAGES] == {}


def test_days_are_never_deleted() -> None:
    image = IMAGE_IDS[0]
    index = fold(
        [event_writes(records.ready(image, REVISIONS[0], 2), SHARDS), event_writes(records.removed(image, 4), SHARDS)]
    )
    assert rows(index)[IMAGES] == {}
    assert [row["day"] for row in rows(index)[DAYS].values()] == [DAY.date()]


@pytest.mark.parametrize(
    "command", [records.cleared(keep=(IMAGE_IDS[0],)), records.reprocess(IMAGE_IDS[0], 0, REVISIONS[0], 0)]
)
def test_a_fence_that_keeps_images_and_a_reprocess_write_nothing_themselves(command: OwnerCleared) -> None:
    assert writes_of([versioned(command, 8)], []) == [[]]


@given(st.lists(st.tuples(st.none() | versions, versions), min_size=1, max_size=6), SEEDS)
def test_the_record_of_fences_is_the_highest_bound_in_any_order(fences, seed) -> None:  # type: ignore[no-untyped-def]
    """A clear's bound is its own version; a set's is below its own version."""
    logged = [versioned(records.cleared(before), version) for before, version in fences]
    index = fold(shuffled(writes_of(logged, []), random.Random(seed)))
    highest = max(version if before is None else before for before, version in fences)
    [record] = rows(index)[FENCES].values()
    assert record["before"] == highest
