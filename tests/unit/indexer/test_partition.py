"""One partition of the indexer: the position that may be committed, the window and the fence's wait."""

import asyncio
import time

from indexer.handler import Barrier
from indexer.partition import Partition
from shared.consuming.record import ConsumedRecord
from shared.errors import Unavailable
from shared.settings import Topic
from tests.support.indexing import consumed


class TestPartition:
    """Each test stands for one assignment; `doors` hold records until they are opened."""

    def setup_method(self) -> None:
        self.doors: dict[int, asyncio.Event] = {}
        self.failures: list[BaseException] = []
        self.begun: list[int] = []

    async def deliver(self, record: ConsumedRecord, lower_settled: Barrier) -> None:
        if record.key == b"fence":
            await lower_settled()
        self.begun.append(record.offset)
        await self.doors.setdefault(record.offset, asyncio.Event()).wait()
        if record.key == b"broken":
            raise Unavailable("cassandra", "away")

    def partition(self, window: int = 100) -> Partition:
        return Partition(self.deliver, self.failures.append, window)

    async def open(self, *offsets: int) -> None:
        for offset in offsets:
            self.doors.setdefault(offset, asyncio.Event()).set()
        for _ in range(5):
            await asyncio.sleep(0)

    async def test_position_is_contiguous(self) -> None:
        partition = self.partition()
        for offset in (4, 5, 7):
            partition.start(consumed(None, offset))
        await self.open(5, 7)
        assert (partition.position, partition.pending) == (None, 3)
        await self.open(4)
        assert (partition.position, partition.pending) == (8, 0)

    async def test_age_is_that_of_the_oldest_unsettled_record(self) -> None:
        partition, now = self.partition(), time.time()
        for offset, age in ((1, 90), (2, 30)):
            partition.start(ConsumedRecord(Topic.COMMANDS, 0, offset, b"k", None, [], now - age))
        assert (partition.running, round(partition.oldest_seconds(), -1)) == (2, 90)
        await self.open(1)
        assert (partition.running, round(partition.oldest_seconds(), -1)) == (1, 30)
        await self.open(2)
        assert (partition.running, partition.oldest_seconds()) == (0, 0)

    async def test_fence_waits_for_lower_offsets_and_blocks_no_other_record(self) -> None:
        partition = self.partition()
        partition.start(consumed(None, 1))
        partition.start(ConsumedRecord(Topic.COMMANDS, 0, 2, b"fence", None, []))
        partition.start(consumed(None, 3))
        await self.open(3)
        assert self.begun == [1, 3]
        await self.open(1)
        assert self.begun == [1, 3, 2]
        assert partition.position == 2
        await self.open(2)
        assert partition.position == 4

    async def test_window_bounds_what_is_started(self) -> None:
        partition = self.partition(window=2)
        partition.start(consumed(None, 1))
        assert partition.has_room
        partition.start(consumed(None, 2))
        await self.open(2)
        assert not partition.has_room, "the lowest record is unsettled, so the settled ones above it count"
        await self.open(1)
        assert partition.has_room

    async def test_failure_is_reported_and_the_position_stays_below_it(self) -> None:
        partition = self.partition()
        partition.start(ConsumedRecord(Topic.COMMANDS, 0, 1, b"broken", None, []))
        partition.start(consumed(None, 2))
        await self.open(1, 2)
        assert [type(error) for error in self.failures] == [Unavailable]
        assert partition.position is None

    async def test_drain_waits_to_its_deadline_and_close_cancels_the_rest(self) -> None:
        partition = self.partition()
        for offset in (1, 2):
            partition.start(consumed(None, offset))
        await self.open(1)
        await partition.drain(0.02)
        assert partition.position == 2
        await partition.close()
        assert (partition.position, self.failures) == (2, [])
