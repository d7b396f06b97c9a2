"""No record of any topic makes a command raise an undocumented error. Each command counts the records that it skips."""

import asyncio
from collections.abc import AsyncIterator, Coroutine, Sequence
from contextlib import redirect_stdout, suppress
from datetime import UTC, datetime, timedelta
from io import StringIO
from typing import Any, TypeVar, cast
from uuid import UUID

from hypothesis import given, settings

from ops.bucket.listing import BucketImage, sort_objects, walk_images
from ops.checks.differences import (
    check_manifests,
    check_objects,
    check_row,
    check_unanswered,
    checksums,
    missing_rows,
    wanted_objects,
)
from ops.checks.inspection import Inspection
from ops.commands.reprocess import Where, _command, _wants
from ops.commands.tail import show
from ops.index.rebuild import Rebuild, digest
from ops.index.rows import Rows, StoredRow, key_in, state_writes
from ops.log.copy import TopicCopy, copied_command
from ops.log.dead_letter_queue import DROPPED, Entries, Filter, redrive, settle
from ops.log.fold import Fold
from ops.log.reader import TopicReader
from ops.log.summary import summary
from ops.log.unanswered import Unanswered
from ops.owner_erasure import Traces
from ops.replaying.finished import Asked, Snapshot, _note_answer
from ops.replaying.replayer import Replayed, Scope, scan
from ops.terminal.output import Output
from shared.cassandra.index import CassandraIndex
from shared.consuming.record import ConsumedRecord
from shared.contract.encoding import decode_command, decode_event, encode
from shared.contract.events import Manifest, Ready
from shared.contract.headers import Headers
from shared.contract.keys import manifest_key, uploaded_at
from shared.contract.logged_command import LoggedFence, read_command
from shared.errors import PoisonRecord
from shared.kafka.producer import Producer
from shared.ports import Appended, ObjectInfo
from shared.read_model.documents import document
from shared.read_model.tables import IMAGE_TABLES, IMAGES, Update, command_writes, event_writes
from shared.s3.store import S3Store
from shared.settings import Settings, Topic
from tests.support.arbitrary import IDS, logs
from tests.support.memory.ports import MemoryIndex, MemoryStore
from tests.support.records import OWNER
from tests.support.storable import storable

T = TypeVar("T")
SETTINGS = Settings(_env_file=None)
SHARDS = SETTINGS.day_shards
NOW = datetime(2026, 1, 1, tzinfo=UTC)
EVERYTHING = Filter()


def run(work: Coroutine[Any, Any, T]) -> T:
    return asyncio.run(work)


class Written:
    """A producer that keeps what it is given, and refuses what aiokafka refuses."""

    def __init__(self) -> None:
        self.records: list[ConsumedRecord] = []

    async def partitions(self, _topic: str) -> int:
        return 1

    async def send(
        self, topic: str, value: bytes | None, *, key: bytes | None, headers: Headers, partition: int | None = None
    ) -> Appended:
        assert value is not None or key is not None
        assert partition in (None, 0)
        assert all(isinstance(name, str) and isinstance(content, bytes) for name, content in headers)
        logical = next(each for each in Topic if SETTINGS.topic(each) == topic)
        self.records.append(ConsumedRecord(logical, 0, 1000 + len(self.records), key, value, headers, 1.0))
        return Appended(0, len(self.records))


def folded(commands: Sequence[ConsumedRecord], events: Sequence[ConsumedRecord]) -> Fold:
    fold = Fold(1)
    fold.add_commands(commands)
    fold.add_events(events)
    return fold


@settings(deadline=None)
@given(logs(Topic.COMMANDS), logs(Topic.EVENTS))
def test_fold_skips_what_is_not_valid_and_counts_it(
    commands: list[ConsumedRecord], events: list[ConsumedRecord]
) -> None:
    invalid = 0
    for record in commands:
        try:
            read_command(record, 1)
        except PoisonRecord:
            invalid += 1
    for record in events:
        try:
            if record.value is not None:
                decode_event(record.value)
        except PoisonRecord:
            invalid += 1
    skipped = folded(commands, events).skipped
    assert (skipped.count, len(skipped.places)) == (invalid, min(invalid, 20))
    assert bool(skipped.lines()) == bool(invalid)


@settings(deadline=None)
@given(logs(Topic.COMMANDS), logs(Topic.EVENTS))
def test_every_state_is_compared_rebuilt_and_rendered_again(
    commands: list[ConsumedRecord], events: list[ConsumedRecord]
) -> None:
    fold = folded(commands, events)
    index = MemoryIndex()
    for state in fold:
        writes = state_writes(state, SHARDS)
        run(index.apply(writes))
        for image in (BucketImage(state.image_id), objects_of(state.image_id)):
            stay = timedelta(days=70)
            for has_tombstone in (False, True):
                list(
                    check_objects(state, image, now=NOW, grace=stay, has_tombstone=has_tombstone, tombstones_stay=stay)
                )
        cells = {name: (cell.version, cell.values[0]) for name, cell in state.live().items()}
        for table in IMAGE_TABLES:
            moment = uploaded_at(state.image_id)
            key = key_in(table, state.image_id, state.owner, SHARDS)
            row = StoredRow(table, key, state.image_id, state.owner, moment, cells)
            assert list(check_row(state, row, SHARDS)) == [] or not cells
            digest(row)
        list(missing_rows(state, ()))
        list(check_unanswered(state, fold.fences.get(state.owner.key, {}), {}))
        list(wanted_objects(state))
        checksums(state)
    for (image_id,) in index.table(IMAGES):
        found = run(index.image(image_id))
        assert found is not None
        document(found, "https://img.example.org")
        for where in Where:
            if _wants(found, where, "0" * 16):
                encode(_command(found, where, SETTINGS))


def objects_of(image_id: UUID) -> BucketImage:
    key = f"images/{image_id}/{image_id}/original.png"
    return sort_objects(image_id, [ObjectInfo(key, 1, "", NOW), ObjectInfo(f"images/{image_id}/x", 1, "", NOW)])


@settings(deadline=None)
@given(logs(Topic.EVENTS), logs(Topic.EVENTS))
def test_manifests_of_any_event_are_compared(events: list[ConsumedRecord], stored: list[ConsumedRecord]) -> None:
    manifests: dict[str, Manifest | None] = {"images/x/manifest.json": None}
    for record in stored:
        with suppress(PoisonRecord):
            event = decode_event(record.value)
            if isinstance(event, Ready):
                key = manifest_key(event.image_id, event.request.revision, event.current.render)
                manifests[key] = Manifest(render=event.current.render, event=event)
    for state in folded([], events):
        list(check_manifests(state, manifests))


@settings(deadline=None)
@given(logs(Topic.COMMANDS), logs(Topic.EVENTS))
def test_what_the_contract_accepts_cassandra_can_store(
    commands: list[ConsumedRecord], events: list[ConsumedRecord]
) -> None:
    for record in commands:
        with suppress(PoisonRecord):
            storable(command_writes(read_command(record, 1), SHARDS))
    for record in events:
        with suppress(PoisonRecord):
            storable(event_writes(decode_event(record.value), SHARDS))


@settings(deadline=None)
@given(logs(Topic.COMMANDS), logs(Topic.EVENTS))
def test_a_rebuild_follows_any_log(commands: list[ConsumedRecord], events: list[ConsumedRecord]) -> None:
    rebuild = Rebuild(SETTINGS, cast(CassandraIndex, MemoryIndex()), cast(S3Store, MemoryStore()), Output())
    for topic, records in ((Topic.COMMANDS, commands), (Topic.EVENTS, events)):
        for record in records:
            run(rebuild.target.apply(rebuild._writes(topic, record)))
    assert rebuild.done.skipped.count == folded(commands, events).skipped.count


class Log:
    """A reader of these records."""

    topic = SETTINGS.topic(Topic.COMMANDS)

    def __init__(self, records: Sequence[ConsumedRecord]) -> None:
        self._records = records

    async def read(self, _start: object, _end: object) -> AsyncIterator[Sequence[ConsumedRecord]]:
        yield self._records


@settings(deadline=None)
@given(logs(Topic.COMMANDS), logs(Topic.EVENTS))
def test_a_replay_finds_out_what_is_finished(commands: list[ConsumedRecord], events: list[ConsumedRecord]) -> None:
    done, snapshot = Replayed(), Snapshot()
    reader = cast(TopicReader, Log(commands))
    asked: list[Asked] = run(scan(reader, {0: 0}, {0: 0}, Scope(), 1, done, Output()))
    for record in events:
        if record.value is not None:
            _note_answer(snapshot, record.value)
    for each in asked:
        snapshot.is_finished(each)
        datetime.fromtimestamp(each.time / 1000, UTC)
    assert len(asked) + done.fences + done.skipped.count == len(commands)


@settings(deadline=None)
@given(logs(Topic.COMMANDS), logs(Topic.EVENTS))
def test_an_erasure_is_planned_from_any_log(commands: list[ConsumedRecord], events: list[ConsumedRecord]) -> None:
    traces, valid = Traces(), 0
    traces.add_commands(commands, OWNER)
    traces.add_events(events, OWNER)
    for record in commands:
        with suppress(PoisonRecord):
            valid += decode_command(record.value).owner == OWNER
    assert traces.commands == valid
    unanswered = Unanswered(SETTINGS, OWNER, {})
    unanswered._add_commands(commands)


@settings(deadline=None)
@given(logs(Topic.COMMANDS), logs(Topic.EVENTS))
def test_any_log_is_copied(commands: list[ConsumedRecord], events: list[ConsumedRecord]) -> None:
    written = Written()
    copying = TopicCopy(SETTINGS, SETTINGS, cast(Producer, written))
    run(copying._copy(commands, Topic.COMMANDS, lambda count=1: None))
    run(copying._copy(events, Topic.EVENTS, lambda count=1: None))
    assert copying.counts.total() + copying.skipped.count == len(commands) + len(events)
    for record in commands:
        with suppress(PoisonRecord):
            if not isinstance(read_command(record, 1), LoggedFence):
                assert copied_command(record, 1)[0] == record.value


@settings(deadline=None)
@given(logs(Topic.DLQ))
def test_dead_letters_are_listed_redriven_and_dropped(records: list[ConsumedRecord]) -> None:
    entries = Entries(lambda letter: letter if EVERYTHING(letter) else None, lambda _letter, _action: None)
    entries.add(records)
    written = Written()
    for number, letter in enumerate(list(entries.open.values())):
        letter.document()
        if number % 2:
            run(settle(letter, SETTINGS, cast(Producer, written), DROPPED))
            continue
        try:
            run(redrive(letter, SETTINGS, cast(Producer, written), MemoryStore()))
        except PoisonRecord:
            entries.open.pop(letter.name)
    entries.add([record for record in written.records if record.topic is Topic.DLQ])
    assert entries.open == {}


@settings(deadline=None)
@given(logs(Topic.DLQ), logs(Topic.COMMANDS))
def test_verify_reads_any_dead_letters(letters: list[ConsumedRecord], commands: list[ConsumedRecord]) -> None:
    look = Inspection(
        SETTINGS, cast(Rows, None), cast(S3Store, None), Output(), grace=timedelta(0), with_checksums=False
    )
    look.fold.add_commands(commands)
    look._entries.add(letters)
    for about, version in look._entries.open.values():
        look._settle((about, version), DROPPED)


@settings(deadline=None)
@given(logs(Topic.EVENTS))
def test_tail_shows_any_record_in_one_line(records: list[ConsumedRecord]) -> None:
    for record in records:
        for as_json in (False, True):
            with redirect_stdout(StringIO()) as printed:
                show(record, summary(record), Output(as_json))
            assert printed.getvalue().count("\n") == 1


async def test_ids_that_no_image_can_have_are_strange_folders_in_the_bucket() -> None:
    store = MemoryStore()
    for name in IDS:
        await store.put(f"images/{name}/{name}/original.png", b"x", "image/png")
    known = {image.image_id async for image in walk_images(store)}
    assert {str(image_id) for image_id in known if image_id.int} == {IDS[2], IDS[4], IDS[6]}


def test_update_is_checked_by_the_types_of_its_columns() -> None:
    try:
        storable([Update(IMAGES, {}, {"width": 2**31}, 1)])
    except Exception:
        return
    raise AssertionError("a width that Cassandra cannot store was serialised")
