"""Erases all data of an owner.

The eraser appends delete commands, so that the services delete rows and objects. For each event it appends a record
without a value, so that Kafka's compaction deletes the event. Kafka's retention deletes commands and dead letters.
"""

import asyncio
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

from ops.bucket.listing import pages
from ops.log.dead_letter_queue import DROPPED, DeadLetter, Filter, settle, unsettled
from ops.log.reader import read_topic
from ops.log.skipped import Skipped
from ops.log.unanswered import Unanswered
from ops.terminal.output import Output
from shared.cassandra.deployment import Keyspaces
from shared.cassandra.index import CassandraIndex
from shared.consuming.record import ConsumedRecord
from shared.contract.encoding import decode_command, decode_event
from shared.contract.events import Deleted, OwnerCleared
from shared.contract.keys import TOMBSTONES_PREFIX, Owner, command_version, image_prefix, incoming_prefix
from shared.contract.logged_command import LoggedDelete
from shared.errors import PoisonRecord, Unavailable
from shared.kafka.producer import Producer
from shared.kafka.topics import COMPACTION_AT_LATEST
from shared.kafka.writers import KafkaCommandLog
from shared.owner_images import owner_row_ids
from shared.ports import ObjectStore
from shared.read_model.tables import FENCES, Delete, command_writes, owner_key
from shared.settings import Settings, Topic

SEGMENT = timedelta(days=7)
"""Kafka's default time until a segment is closed. Retention deletes whole segments, so a record may stay that much
longer."""
NULLS_STAY = timedelta(days=1)
"""Kafka's default time for which a record without a value is kept after compaction."""
POLL_SECONDS = 1.0


@dataclass(frozen=True)
class View:
    """The index in one keyspace, with the keyspace's number of shards of a day."""

    index: CassandraIndex
    shards: int


@dataclass
class Traces:
    """The data of an owner. `event_keys` maps the keys of events that have a value to their partition.

    `incoming` is the number of objects that clients put with temporary S3 keys. An upload copies such an object and
    does not delete it. `fence_records` is the number of keyspaces that have a record of the owner's fences.
    """

    images: set[UUID] = field(default_factory=set)
    incoming: int = 0
    fence_records: int = 0
    commands: int = 0
    event_keys: dict[bytes, int] = field(default_factory=dict)
    dead_letters: list[DeadLetter] = field(default_factory=list)
    skipped: Skipped = field(default_factory=Skipped)

    def add_commands(self, records: Iterable[ConsumedRecord], owner: Owner) -> None:
        """Note what these records of the commands topic have of the owner; invalid records are skipped."""
        for record in records:
            try:
                command = decode_command(record.value)
            except PoisonRecord as error:
                self.skipped.add(record, error)
                continue
            if command.owner == owner:
                self.commands += 1
                if not isinstance(command, OwnerCleared):
                    self.images.add(command.image_id)

    def add_events(self, records: Iterable[ConsumedRecord], owner: Owner) -> None:
        """Note what these records of the events topic have of the owner; invalid records are skipped."""
        for record in records:
            if record.key is None:
                self.skipped.add(record, "an event without a key")
                continue
            if record.value is None:
                self.event_keys.pop(record.key, None)
                continue
            try:
                event = decode_event(record.value)
            except PoisonRecord as error:
                self.skipped.add(record, error)
                continue
            if event.owner == owner:
                self.images.add(event.image_id)
                self.event_keys[record.key] = record.partition


class Eraser:
    """Erases one owner. It may be interrupted and repeated. The methods raise Unavailable, UnknownOutcome."""

    def __init__(
        self,
        settings: Settings,
        owner: Owner,
        views: Sequence[View],
        store: ObjectStore,
        producer: Producer,
        output: Output,
    ) -> None:
        self._settings = settings
        self._owner = owner
        self._views = views
        self._store = store
        self._producer = producer
        self._output = output
        self._log = KafkaCommandLog(producer, settings, "imagepipe/erase")
        self._fence = 0
        """Version of the fence of this erasure."""

    async def find(self) -> Traces:
        """Find all data of the owner in the log, the DLQ, the bucket and the index in each keyspace."""
        traces = Traces()
        await self._find_commands(traces)
        await self._find_events(traces)
        traces.dead_letters = await unsettled(self._settings, Filter(owner=self._owner))
        for view in self._views:
            traces.images |= await self._rows(view)
        traces.fence_records = await self._count_fence_records()
        traces.incoming = await self._count_incoming()
        return traces

    async def _count_fence_records(self) -> int:
        return sum([await view.index.cleared_before(self._owner) > 0 for view in self._views])

    async def _count_incoming(self) -> int:
        return sum([len(page) async for page in pages(self._store, incoming_prefix(self._owner))])

    async def _find_commands(self, traces: Traces) -> None:
        await read_topic(
            self._settings, Topic.COMMANDS, lambda records: traces.add_commands(records, self._owner), self._output
        )

    async def _find_events(self, traces: Traces) -> None:
        await read_topic(
            self._settings, Topic.EVENTS, lambda records: traces.add_events(records, self._owner), self._output
        )

    async def _rows(self, view: View) -> set[UUID]:
        found: set[UUID] = set()
        # A ghost holds the owner's key and a file name, too.
        async for page in owner_row_ids(view.index, self._owner):
            found.update(page)
        return found

    async def clear(self, traces: Traces) -> None:
        """Append a fence, then a delete for each image. A row is deleted after the ack of its delete (invariant 9).

        1. Images that are in the log but not in the index are deleted too. Because of their tombstones no replay,
           redrive or rebuild restores them.
        2. The rows are deleted in every keyspace of the deployment. The indexers write only to the live one, and an
           operator may switch to another one.
        3. Incoming objects are not in the log, so they are deleted directly, page by page: there may be very many.
        """
        appended = await self._log.append(OwnerCleared(owner=self._owner))
        if appended.offset is None:
            # Without its version the record that this fence makes could not be removed.
            raise Unavailable("kafka", "the ack has no offset: run the command again")
        self._fence = command_version(self._settings.epoch, appended.offset)
        async for page in pages(self._store, incoming_prefix(self._owner)):
            await self._store.delete([info.key for info in page])
        with self._output.progress("Delete", len(traces.images)) as advance:
            for image_id in sorted(traces.images):
                command = Deleted(image_id=image_id, owner=self._owner)
                appended = await self._log.append(command)
                if appended.offset is not None:
                    logged = LoggedDelete(command, command_version(self._settings.epoch, appended.offset))
                    for view in self._views:
                        await view.index.apply(command_writes(logged, view.shards))
                advance()

    async def wait_until_gone(self, images: set[UUID], unanswered: Unanswered, limit: timedelta) -> None:
        """Return when every image has a tombstone and no other object, and no command is unanswered.

        A tombstone alone is not enough: an image that was deleted before has one, and the answer to the new delete
        contains the owner's key. Raises Unavailable after `limit`.
        """
        deadline = asyncio.get_running_loop().time() + limit.total_seconds()
        waiting = set(images)
        while True:
            for image_id in sorted(waiting):
                tombstone = await self._store.list(f"{TOMBSTONES_PREFIX}{image_id}")
                if tombstone and not await self._store.list(image_prefix(image_id)):
                    waiting.discard(image_id)
            missing = await unanswered.count()
            if not waiting and not missing:
                return
            if asyncio.get_running_loop().time() > deadline:
                raise Unavailable(
                    "processor",
                    f"{len(waiting)} images are not deleted and {missing} commands are not answered and committed yet: "
                    "run the command again later",
                )
            await asyncio.sleep(POLL_SECONDS)

    async def forget(self, traces: Traces) -> None:
        """Write a record without a value for every event key of the owner's images, and drop its DLQ entries.

        Then remove the record of the owner's fences in every keyspace.
        """
        topic = self._settings.topic(Topic.EVENTS)
        with self._output.progress("Null event keys", len(traces.event_keys)) as advance:
            for key, partition in traces.event_keys.items():
                await self._producer.send(topic, None, key=key, headers=[], partition=partition)
                advance()
        for letter in traces.dead_letters:
            await settle(letter, self._settings, self._producer, DROPPED)
        # Last, because the fence of this erasure writes the record too. The deletion has the version of that fence, so
        # an indexer that reaches the fence later does not restore the record.
        for view in self._views:
            await view.index.apply([Delete(FENCES, owner_key(self._owner), self._fence)])

    async def left(self, images: set[UUID]) -> Mapping[str, int]:
        """Count the remaining data: rows, objects, images without a tombstone, event keys with a value, fences."""
        rows = objects = without_tombstone = 0
        for view in self._views:
            rows += len(await self._rows(view))
            for image_id in images:
                rows += await view.index.image(image_id) is not None
        for image_id in images:
            objects += len(await self._store.list(image_prefix(image_id)))
            without_tombstone += not await self._store.list(f"{TOMBSTONES_PREFIX}{image_id}")
        traces = Traces()
        await self._find_events(traces)
        incoming = await self._count_incoming()
        return {
            "rows": rows, "objects": objects, "incoming_objects": incoming, "without_tombstone": without_tombstone,
            "event_keys": len(traces.event_keys), "fence_records": await self._count_fence_records(),
        }  # fmt: skip


def certificate(
    settings: Settings,
    owner: Owner,
    traces: Traces,
    objects: Mapping[str, int],
    keyspaces: Keyspaces,
    left: Mapping[str, int],
) -> dict[str, Any]:
    """The certificate as a JSON object: what was deleted, and the date by which each topic has lost the owner's data.

    `objects` maps each kind of object to the number of objects that were found.
    """
    now = datetime.now(UTC)
    retained = now + settings.commands_retention + SEGMENT
    return {
        "owner": owner.key,
        "time": now.isoformat(timespec="seconds"),
        "complete": not any(left.values()),
        "images": sorted(map(str, traces.images)),
        "removed": {
            **objects,
            "event_keys_nulled": len(traces.event_keys),
            "dlq_entries_closed": len(traces.dead_letters),
            "fence_records": traces.fence_records,
        },
        "left": dict(left),
        "skipped": traces.skipped.document(),
        "keyspaces": {"erased": list(keyspaces.own), "not_touched": list(keyspaces.others)},
        "gone_by": {
            settings.topic(Topic.COMMANDS): retained.date().isoformat(),
            settings.topic(Topic.EVENTS): (now + COMPACTION_AT_LATEST + NULLS_STAY).date().isoformat(),
            settings.topic(Topic.DLQ): retained.date().isoformat(),
            "tombstones (ids only)": (now + settings.tombstone_retention + timedelta(days=1)).date().isoformat(),
            "idempotency_keys": (now + timedelta(days=1)).date().isoformat(),
        },
    }
