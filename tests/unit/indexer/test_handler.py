"""How the indexer turns records into rows."""

import asyncio

import pytest

from indexer.handler import Handler, parse
from shared.contract.events import Command
from shared.contract.keys import command_version, new_id
from shared.errors import PoisonRecord
from shared.ports import Appended
from shared.settings import Topic
from tests.support import records
from tests.support.indexing import SHARDS, consumed, content_of, deletes, fence_of, handler_of, nothing_lower
from tests.support.memory.ports import MemoryCommandLog, MemoryIndex
from tests.support.records import OWNER


class TestHandler:
    async def test_command_and_answer_become_rows(self) -> None:
        index, image, revision = MemoryIndex(), new_id(), new_id()
        handler = handler_of(index)
        await handler.handle(content_of(records.uploaded(image, revision), 5), nothing_lower)
        row = await index.image(image)
        assert row is not None
        assert (row.image_version, row.current) == (command_version(1, 5), None)
        answer = records.ready(image, revision, command_version(1, 5))
        await handler.handle(content_of(answer, 0, Topic.EVENTS), nothing_lower)
        row = await index.image(image)
        assert row is not None
        assert row.current == answer.current

    async def test_compaction_tombstone_writes_nothing(self) -> None:
        index = MemoryIndex()
        await handler_of(index).handle(content_of(None, 0, Topic.EVENTS), nothing_lower)
        assert list(await index.days()) == []

    @pytest.mark.parametrize("topic", [Topic.COMMANDS, Topic.EVENTS])
    def test_unreadable_record_is_a_poison_record(self, topic: Topic) -> None:
        assert isinstance(parse(consumed(b"{}", 0, topic), 1), PoisonRecord)

    def test_command_without_a_value_cannot_be_read(self) -> None:
        assert isinstance(parse(consumed(None, 0), 1), PoisonRecord)

    async def test_without_a_fence_owner_cleared_deletes_nothing(self) -> None:
        """As a replay or a rebuild applies it: its deletions are in the log as deletes."""
        index, image = MemoryIndex(), new_id()
        handler = handler_of(index)
        await handler.handle(content_of(records.uploaded(image), 1), nothing_lower)
        await handler.handle(content_of(records.cleared(), 2), nothing_lower)
        assert await index.image(image) is not None
        assert await index.cleared_before(OWNER) == command_version(1, 2)

    async def test_fence_writes_its_record_before_it_deletes(self) -> None:
        index, image = MemoryIndex(), new_id()
        bounds: list[int] = []

        class Log(MemoryCommandLog):
            async def append(self, command: Command, *, traceparent: str | None = None) -> Appended:
                bounds.append(await index.cleared_before(OWNER))
                return await super().append(command, traceparent=traceparent)

        handler = handler_of(index, fence_of(index, Log()))
        await handler.handle(content_of(records.uploaded(image), 1), nothing_lower)
        await handler.handle(content_of(records.cleared(), 9), nothing_lower)
        assert bounds == [command_version(1, 9)]
        # The fence of a set is later in the log and has a lower bound.
        await handler.handle(content_of(records.cleared(command_version(1, 4)), 12), nothing_lower)
        assert await index.cleared_before(OWNER) == command_version(1, 9)

    async def test_fence_that_keeps_images_has_no_record(self) -> None:
        index, kept = MemoryIndex(), new_id()
        handler = handler_of(index, fence_of(index, MemoryCommandLog()))
        await handler.handle(content_of(records.cleared(command_version(1, 4), (kept,)), 9), nothing_lower)
        assert await index.cleared_before(OWNER) == 0

    async def test_fence_waits_for_lower_offsets_without_taking_a_slot(self) -> None:
        index, commands = MemoryIndex(), MemoryCommandLog()
        handler = Handler(index, shards=SHARDS, concurrency=1, fence=fence_of(index, commands))
        settled, image = asyncio.Event(), new_id()

        async def lower_settled() -> None:
            await settled.wait()

        fence = asyncio.create_task(handler.handle(content_of(records.cleared(), 2), lower_settled))
        await asyncio.sleep(0)
        # The one slot is free for the lower offset that the fence waits for.
        await handler.handle(content_of(records.uploaded(image), 1), nothing_lower)
        assert commands.commands == []
        settled.set()
        await fence
        assert [command.image_id for command in deletes(commands)] == [image]
