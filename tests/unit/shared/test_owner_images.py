"""Paging through the images of an owner."""

from datetime import datetime
from uuid import UUID

import pytest

from shared.contract.keys import Owner, new_id
from shared.contract.logged_command import versioned
from shared.owner_images import owner_pages, owner_row_ids
from shared.read_model.tables import command_writes
from tests.support import records
from tests.support.ghosts import images_below_ghosts
from tests.support.memory.ports import MemoryIndex

SHARDS = 4
OTHER = Owner(type="user", id="2")


async def index_with(ids: list[UUID]) -> MemoryIndex:
    index = MemoryIndex()
    for offset, image_id in enumerate(ids):
        await index.apply(command_writes(versioned(records.uploaded(image_id), 2 * offset), SHARDS))
    await index.apply(command_writes(versioned(records.uploaded(owner=OTHER), 10_000), SHARDS))
    return index


@pytest.mark.parametrize(("images", "sizes"), [(0, []), (1, [1]), (3, [3]), (4, [3, 1]), (6, [3, 3])])
async def test_pages_have_each_image_of_the_owner_once_newest_first(images: int, sizes: list[int]) -> None:
    ids = [new_id() for _ in range(images)]
    index = await index_with(ids)
    pages = [[row.image_id for row in page] async for page in owner_pages(index, records.OWNER, size=3)]
    assert [len(page) for page in pages] == sizes
    assert [image_id for page in pages for image_id in page] == ids[::-1]


async def test_the_rows_of_a_page_can_be_deleted_before_the_next_one_is_read() -> None:
    ids = [new_id() for _ in range(5)]
    index = await index_with(ids)
    seen = []
    async for page in owner_pages(index, records.OWNER, size=2):
        for row in page:
            seen.append(row.image_id)
            await index.apply(command_writes(versioned(records.deleted(row.image_id), 1000), SHARDS))
    assert seen == ids[::-1]
    assert await index.of_owner(records.OWNER) == []


async def test_images_that_arrive_later_are_not_read() -> None:
    ids = [new_id() for _ in range(4)]
    index = await index_with(ids)
    seen = []
    async for page in owner_pages(index, records.OWNER, size=2):
        seen += [row.image_id for row in page]
        await index.apply(command_writes(versioned(records.uploaded(new_id()), 1000), SHARDS))
    assert seen == ids[::-1]


async def test_pages_pass_ghosts_and_ids_of_rows_include_them() -> None:
    index = MemoryIndex()
    images, ghosts = await images_below_ghosts(index, records.OWNER, SHARDS, datetime(2026, 5, 1))
    assert [[row.image_id for row in page] async for page in owner_pages(index, records.OWNER, size=2)] == [
        images[:2],
        images[2:],
    ]
    ids = [image_id async for page in owner_row_ids(index, records.OWNER, size=100) for image_id in page]
    assert ids == [*ghosts, *images]
