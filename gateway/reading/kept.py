"""What the gateway has made of a row is used again until the row changes."""

from collections.abc import Callable
from typing import Generic, TypeVar
from uuid import UUID

from cachetools import LRUCache

from shared.read_model.documents import ImageRow

T = TypeVar("T")


class KeptForRows(Generic[T]):
    """Results of a pure function of a row. A read without a cache, too, mostly finds rows that have not changed."""

    def __init__(self, make: Callable[[ImageRow], T], rows: int) -> None:
        """`make` is the function. The results for so many rows are kept."""
        self._make = make
        self._kept: LRUCache[UUID, tuple[ImageRow, T]] = LRUCache(rows)

    def of(self, row: ImageRow) -> T:
        """The result for this row."""
        kept = self._kept.get(row.image_id)
        # Rows that are equal are mostly the same object, see `shared.cassandra.cql.image_row`.
        if kept is None or kept[0] != row:
            kept = self._kept[row.image_id] = (row, self._make(row))
        return kept[1]
