"""An owner is erased with any number of objects: no call takes longer because there are more of them."""

from collections.abc import Callable, Iterable, Sequence
from datetime import datetime
from typing import cast

import pytest

from ops import owner_erasure
from ops.bucket.listing import pages
from ops.log import dead_letter_queue
from ops.owner_erasure import Eraser, View
from ops.terminal.output import Output
from shared.cassandra.index import CassandraIndex
from shared.consuming.record import ConsumedRecord
from shared.contract.events import OwnerCleared
from shared.contract.headers import Headers
from shared.contract.keys import Owner, command_version, incoming_prefix
from shared.contract.logged_command import LoggedFence
from shared.errors import Unavailable
from shared.kafka.producer import Producer
from shared.ports import LIST_PAGE, Appended, ObjectInfo
from shared.read_model.tables import IMAGE_TABLES, command_writes, fence_insert
from shared.settings import Settings, Topic
from tests.support.ghosts import images_below_ghosts
from tests.support.memory.ports import MemoryIndex, MemoryStore
from tests.support.records import OWNER

OTHER = Owner(type="user", id="2")
OBJECTS = 100_000


class SlowStore(MemoryStore):
    """A store in which a call that lists or deletes more than a page of objects exceeds its time-out."""

    async def list(self, prefix: str) -> Sequence[ObjectInfo]:
        if sum(key.startswith(prefix) for key in self.objects) > LIST_PAGE:
            raise Unavailable("s3", "no answer within the time-out")
        return await super().list(prefix)

    async def delete(self, keys: Iterable[str]) -> None:
        doomed = list(keys)
        if len(doomed) > LIST_PAGE:
            raise Unavailable("s3", "no answer within the time-out")
        await super().delete(doomed)


class Sent:
    """A producer that accepts everything."""

    async def send(
        self, _topic: str, _value: bytes | None, *, key: bytes | None, headers: Headers, partition: int | None = None
    ) -> Appended:
        return Appended(partition or 0, 1)


@pytest.fixture
def empty_log(monkeypatch: pytest.MonkeyPatch) -> None:
    async def read_nothing(
        _settings: Settings, _topic: Topic, _take: Callable[[Sequence[ConsumedRecord]], None], _output: object = None
    ) -> None:
        return None

    for module in (owner_erasure, dead_letter_queue):
        monkeypatch.setattr(module, "read_topic", read_nothing)


@pytest.mark.usefixtures("empty_log")
async def test_ghosts_are_erased_too() -> None:
    """The commands of a ghost whose replacement is a dead letter may have left the log."""
    settings, index = Settings(_env_file=None), MemoryIndex()
    images, ghosts = await images_below_ghosts(index, OWNER, settings.day_shards, datetime(2026, 5, 1))
    views = [View(cast(CassandraIndex, index), settings.day_shards)]
    eraser = Eraser(settings, OWNER, views, MemoryStore(), cast(Producer, Sent()), Output())
    traces = await eraser.find()
    assert traces.images == {*images, *ghosts}
    await eraser.clear(traces)
    assert (await eraser.left(traces.images))["rows"] == 0
    assert all(index.table(table) == {} for table in IMAGE_TABLES)


@pytest.mark.usefixtures("empty_log")
async def test_owner_with_very_many_incoming_objects_is_erased() -> None:
    store = SlowStore()
    await store.put("incoming/x", b"", "image/png")
    some = store.objects["incoming/x"]
    for owner in (OWNER, OTHER):
        store.objects |= {f"{incoming_prefix(owner)}{number:06}.png": some for number in range(OBJECTS)}
    eraser = Eraser(Settings(_env_file=None), OWNER, [], store, cast(Producer, Sent()), Output())
    traces = await eraser.find()
    assert traces.incoming == OBJECTS
    await eraser.clear(traces)
    assert (await eraser.left(set()))["incoming_objects"] == 0
    assert sum([len(page) async for page in pages(store, incoming_prefix(OTHER))]) == OBJECTS


@pytest.mark.usefixtures("empty_log")
async def test_the_record_of_fences_is_removed_in_every_keyspace_and_stays_removed() -> None:
    indexes = [MemoryIndex(), MemoryIndex()]
    views = [View(cast(CassandraIndex, index), 4) for index in indexes]
    for index in indexes:
        await index.apply([fence_insert(OWNER, 1), fence_insert(OTHER, 1)])
    settings = Settings(_env_file=None)
    eraser = Eraser(settings, OWNER, views, SlowStore(), cast(Producer, Sent()), Output())
    traces = await eraser.find()
    assert traces.fence_records == 2
    await eraser.clear(traces)
    # A late indexer reads the fence of this erasure after the record was removed.
    fence = command_writes(LoggedFence(OwnerCleared(owner=OWNER), command_version(settings.epoch, 1)), 4)
    await indexes[0].apply(fence)
    await eraser.forget(traces)
    await indexes[1].apply(fence)
    assert [await index.cleared_before(OWNER) for index in indexes] == [0, 0]
    assert [await index.cleared_before(OTHER) for index in indexes] == [1, 1]
    assert (await eraser.left(set()))["fence_records"] == 0


class WithoutOffset(Sent):
    """A producer whose acks have no offset."""

    async def send(
        self, _topic: str, _value: bytes | None, *, key: bytes | None, headers: Headers, partition: int | None = None
    ) -> Appended:
        return Appended(partition or 0, None)


@pytest.mark.usefixtures("empty_log")
async def test_an_erasure_whose_fence_has_no_version_does_not_begin() -> None:
    eraser = Eraser(Settings(_env_file=None), OWNER, [], SlowStore(), cast(Producer, WithoutOffset()), Output())
    with pytest.raises(Unavailable, match="no offset"):
        await eraser.clear(await eraser.find())
