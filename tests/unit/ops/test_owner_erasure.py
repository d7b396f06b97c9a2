"""An owner is erased with any number of objects: no call takes longer because there are more of them."""

from collections.abc import Callable, Iterable, Sequence
from typing import cast

import pytest

from ops import owner_erasure
from ops.bucket.listing import pages
from ops.log import dead_letter_queue
from ops.owner_erasure import Eraser
from ops.terminal.output import Output
from shared.consuming.record import ConsumedRecord
from shared.contract.headers import Headers
from shared.contract.keys import Owner, incoming_prefix
from shared.errors import Unavailable
from shared.kafka.producer import Producer
from shared.ports import LIST_PAGE, Appended, ObjectInfo
from shared.settings import Settings, Topic
from tests.support.memory.ports import MemoryStore
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
