"""How the indexer carries out a fence: which images it deletes, and in which order."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

import pytest

from shared.contract.events import Command
from shared.contract.keys import command_version, new_id
from shared.contract.logged_command import LoggedFence
from shared.errors import Unavailable, UnknownOutcome
from shared.owner_images import PAGE
from shared.ports import Appended
from shared.read_model.tables import Write
from tests.support import records
from tests.support.ghosts import images_below_ghosts
from tests.support.indexing import SHARDS, content_of, deletes, fence_of, handler_of, nothing_lower
from tests.support.memory.ports import MemoryCommandLog, MemoryIndex
from tests.support.records import OWNER


class LateLog(MemoryCommandLog):
    """Offsets far above the images' own, as in a real log; some appends fail."""

    def __init__(self, fails: Sequence[int] = (), offsets: bool = True) -> None:
        super().__init__()
        self.fails = set(fails)
        self.offsets = offsets
        self.calls = 0

    async def append(self, command: Command, *, traceparent: str | None = None) -> Appended:
        self.calls += 1
        if self.calls in self.fails:
            raise UnknownOutcome("kafka", "no ack")
        appended = await super().append(command)
        assert appended.offset is not None
        return Appended(0, appended.offset + 100_000 if self.offsets else None)


class TestFence:
    async def index_with(self, versions: Sequence[int]) -> tuple[MemoryIndex, list[UUID]]:
        index, ids = MemoryIndex(), [new_id() for _ in versions]
        for image, version in zip(ids, versions, strict=True):
            await handler_of(index).handle(content_of(records.uploaded(image), version), nothing_lower)
        return index, ids

    async def left(self, index: MemoryIndex) -> set[UUID]:
        return {row.image_id for row in await index.of_owner(OWNER, limit=10_000)}

    async def test_fence_deletes_images_below_it_except_the_kept_ones(self) -> None:
        index, ids = await self.index_with([1, 2, 3, 4])
        log = LateLog()
        fence = records.cleared(command_version(1, 4), (ids[1],))
        assert await fence_of(index, log).clear(LoggedFence(fence, command_version(1, 9))) == 2
        assert {command.image_id for command in deletes(log)} == {ids[0], ids[2]}
        assert await self.left(index) == {ids[1], ids[3]}

    async def test_fence_without_a_bound_deletes_everything_below_itself(self) -> None:
        index, ids = await self.index_with([1, 8, 10])
        assert await fence_of(index, LateLog()).clear(LoggedFence(records.cleared(), command_version(1, 9))) == 2
        assert await self.left(index) == {ids[2]}

    async def test_fence_deletes_thousands_in_pages(self) -> None:
        index, _ = await self.index_with(range(2 * PAGE + 30))
        log, pages = LateLog(), list[int]()
        fence = fence_of(index, log, lambda: pages.append(len(log.commands)))
        assert await fence.clear(LoggedFence(records.cleared(), command_version(1, 50_000))) == 2 * PAGE + 30
        assert pages == [PAGE, 2 * PAGE, 2 * PAGE + 30]
        assert await self.left(index) == set()

    async def test_fence_passes_ghosts_and_appends_no_delete_for_them(self) -> None:
        index = MemoryIndex()
        images, _ = await images_below_ghosts(index, OWNER, SHARDS, datetime(2026, 5, 1))
        log = LateLog()
        assert await fence_of(index, log).clear(LoggedFence(records.cleared(), command_version(1, 50))) == 3
        assert [command.image_id for command in deletes(log)] == images
        assert await self.left(index) == set()

    async def test_row_stays_until_its_delete_is_acked_and_a_repetition_finishes(self) -> None:
        index, ids = await self.index_with(range(10))
        log = LateLog(fails=[4])
        with pytest.raises(UnknownOutcome):
            await fence_of(index, log).clear(LoggedFence(records.cleared(), command_version(1, 50)))
        acked = {command.image_id for command in deletes(log)}
        assert await self.left(index) == set(ids) - acked
        await fence_of(index, log).clear(LoggedFence(records.cleared(), command_version(1, 50)))
        assert await self.left(index) == set()
        assert {command.image_id for command in deletes(log)} == set(ids)

    async def test_ack_without_an_offset_leaves_the_row_until_its_record_is_applied(self) -> None:
        index, ids = await self.index_with([1])
        log = LateLog(offsets=False)
        assert await fence_of(index, log).clear(LoggedFence(records.cleared(), command_version(1, 9))) == 1
        assert await self.left(index) == set(ids)
        await handler_of(index).handle(content_of(log.commands[0], 10), nothing_lower)
        assert await self.left(index) == set()

    async def test_fence_raises_the_failure_of_the_index(self) -> None:
        index, _ = await self.index_with([1])

        async def away(writes: Sequence[Write]) -> Any:
            raise Unavailable("cassandra", "away")

        index.apply = away  # type: ignore[method-assign]
        with pytest.raises(Unavailable, match="cassandra"):
            await fence_of(index, LateLog()).clear(LoggedFence(records.cleared(), command_version(1, 9)))
