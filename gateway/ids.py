"""Ids of one file's image and revision: made before the first try, and the same in every retry (invariant 8)."""

from typing import NamedTuple
from uuid import UUID

from shared.contract.keys import new_id


class Ids(NamedTuple):
    """An image and one revision of it."""

    image_id: UUID
    revision: UUID

    @classmethod
    def mint(cls) -> "Ids":
        """Fresh ids."""
        return cls(new_id(), new_id())
