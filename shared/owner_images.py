"""Reads all images of one owner from the index, page by page."""

from collections.abc import AsyncIterator, Sequence
from uuid import UUID

from shared.contract.keys import Owner
from shared.ports import Index
from shared.read_model.documents import ImageRow

PAGE = 100
"""Rows of one read. A row with its variants has about 2 kB, and an owner may have thousands of images, so they are not
read at once."""


async def owner_row_ids(index: Index, owner: Owner, *, size: int = PAGE) -> AsyncIterator[Sequence[UUID]]:
    """Ids of all rows of an owner, also of ghosts, in pages of at most `size`; no page is empty. Raises Unavailable."""
    below = None
    while page := await index.row_ids(owner, below=below, limit=size):
        yield page
        below = page[-1]


async def owner_pages(index: Index, owner: Owner, *, size: int = PAGE) -> AsyncIterator[Sequence[ImageRow]]:
    """The owner's images, newest first, in pages of at most `size` rows; no page is empty. Raises Unavailable.

    Each page starts below the last row of the previous page. The caller may delete the rows of a page, because the next
    read does not scan them again.
    """
    below = None
    while page := await index.of_owner(owner, below=below, limit=size):
        yield page
        below = page[-1].image_id
