"""Engines in memory. Each effect waits until a scheduler releases it, in a random order."""

import asyncio
import random
from collections.abc import Iterable, Sequence
from typing import Any
from uuid import UUID

from shared.consuming.record import ConsumedRecord
from shared.contract.encoding import encode
from shared.contract.events import Command, Event
from shared.contract.keys import Owner, Partition
from shared.errors import Unavailable, UnknownOutcome
from shared.ports import LIST_PAGE, Appended, ObjectInfo
from shared.read_model.documents import ImageRow
from shared.read_model.tables import Write
from shared.settings import Topic
from tests.support.memory.ports import MemoryIndex, MemoryStore

PARTITIONS = 2
NO_ACK = 0.15
"""Share of appends whose ack is lost; of these every other record is in the log all the same (invariant 8)."""
NO_OFFSET = 0.05
"""Share of acks without the offset of the record."""
LATE = 0.1
"""Share of the effects that come late: up to LONG other effects come before them."""
LONG = 60
AWAY = 0.3
"""Share of the gateway's own writes to the index that fail."""


class Stalls:
    """The effects that wait to be released. A cancelled task never has its effect."""

    def __init__(self, rng: random.Random) -> None:
        self._rng = rng
        self._gates: dict[asyncio.Future[None], int] = {}
        """The effects that wait, each with the number of releases before which it is not drawn."""
        self._released = 0

    async def __call__(self, late: float = LATE) -> None:
        """Wait to be released; `late` is the probability that this effect comes late."""
        gate = asyncio.get_running_loop().create_future()
        self._gates[gate] = self._released + (self._rng.randint(1, LONG) if self._rng.random() < late else 0)
        await gate

    def release(self) -> bool:
        """Release one effect; False if none waits."""
        self._gates = {gate: due for gate, due in self._gates.items() if not gate.done()}
        if not self._gates:
            return False
        self._released += 1
        ready = [gate for gate, due in self._gates.items() if due <= self._released]
        gate = self._rng.choice(ready or list(self._gates))
        del self._gates[gate]
        gate.set_result(None)
        return True


class StalledStore(MemoryStore):
    """The bucket. A page has at most `page_limit` objects, so that small images fill several pages."""

    def __init__(self, stall: Stalls, page_limit: int) -> None:
        super().__init__()
        self._stall = stall
        self._page_limit = page_limit

    async def put(self, key: str, data: bytes, content_type: str, *, if_absent: bool = False) -> str:
        await self._stall()
        return await super().put(key, data, content_type, if_absent=if_absent)

    async def get(self, key: str) -> bytes:
        await self._stall()
        return await super().get(key)

    async def page(
        self, prefix: str, token: str | None = None, *, after: str = "", limit: int = LIST_PAGE
    ) -> tuple[Sequence[ObjectInfo], str | None]:
        await self._stall()
        return await super().page(prefix, token, after=after, limit=min(limit, self._page_limit))

    async def list(self, prefix: str) -> Sequence[ObjectInfo]:
        await self._stall()
        return await super().list(prefix)

    async def delete(self, keys: Iterable[str]) -> None:
        await self._stall()
        await super().delete(keys)


class StalledIndex(MemoryIndex):
    """The index."""

    def __init__(self, stall: Stalls) -> None:
        super().__init__()
        self._stall = stall

    async def apply(self, writes: Sequence[Write]) -> None:
        await self._stall()
        await super().apply(writes)

    async def image(self, image_id: UUID) -> ImageRow | None:
        await self._stall()
        return await super().image(image_id)

    async def cleared_before(self, owner: Owner) -> int:
        await self._stall()
        return await super().cleared_before(owner)

    async def of_owner(self, owner: Owner, **options: Any) -> Sequence[ImageRow]:
        await self._stall()
        return await super().of_owner(owner, **options)

    async def ids(self, partition: Partition, **options: Any) -> Sequence[UUID]:
        found = await super().ids(partition, **options)
        # A reader gets what the index had at some time before the answer arrives.
        await self._stall()
        return found

    async def rows(self, partition: Partition, ids: Sequence[UUID]) -> Sequence[ImageRow]:
        found = await super().rows(partition, ids)
        await self._stall()
        return found


class GatewayIndex(StalledIndex):
    """The same index as the gateway reaches it. It often fails, and then the indexer alone writes the rows."""

    def __init__(self, stall: Stalls, rng: random.Random, index: MemoryIndex) -> None:
        super().__init__(stall)
        self._rng = rng
        self.tables = index.tables

    async def apply(self, writes: Sequence[Write]) -> None:
        if self._rng.random() < AWAY:
            raise Unavailable("cassandra", "away")
        await super().apply(writes)

    async def of_owner(self, owner: Owner, **options: Any) -> Sequence[ImageRow]:
        # The indexer is often faster than the gateway that clears an owner.
        await self._stall(late=0.5)
        return await MemoryIndex.of_owner(self, owner, **options)


class StalledLog:
    """Both topics. Commands are partitioned by owner; acks get lost."""

    def __init__(self, stall: Stalls, rng: random.Random) -> None:
        self.commands: list[list[ConsumedRecord]] = [[] for _ in range(PARTITIONS)]
        self.events: list[ConsumedRecord] = []
        self._stall = stall
        self._rng = rng
        self._news = asyncio.Event()

    async def append(self, command: Command, *, traceparent: str | None = None) -> Appended:
        await self._stall()
        fate = self._rng.random() / NO_ACK
        if fate < 0.5:
            raise UnknownOutcome("kafka", "not sent, but who knows")
        partition = int(command.owner.id) % PARTITIONS
        records = self.commands[partition]
        records.append(
            ConsumedRecord(Topic.COMMANDS, partition, len(records), command.owner.key.encode(), encode(command), [])
        )
        self._tell()
        if fate < 1:
            raise UnknownOutcome("kafka", "sent, and the ack is lost")
        return Appended(partition, None if self._rng.random() < NO_OFFSET else len(records) - 1)

    async def publish(self, event: Event, *, traceparent: str | None = None) -> None:
        await self._stall()
        self.events.append(ConsumedRecord(Topic.EVENTS, 0, len(self.events), b"", encode(event), []))
        self._tell()

    def _tell(self) -> None:
        self._news.set()
        self._news = asyncio.Event()

    async def more(self) -> None:
        """Return once something was appended."""
        await self._news.wait()
