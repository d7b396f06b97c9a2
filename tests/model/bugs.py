"""Deliberate bugs that both models must find."""

from collections.abc import Iterable, Mapping
from typing import Any

import pytest

from shared.read_model.tables import RowWriter, Write, existence_columns


def exist_at_the_records_own_version(patch: pytest.MonkeyPatch) -> None:
    """Write the existence columns like the other columns: at the version of the record."""
    updates = RowWriter.updates

    def late(
        self: RowWriter, image_version: int | None, groups: Iterable[tuple[int, Mapping[str, Any]]]
    ) -> list[Write]:
        assert image_version is not None
        existence = existence_columns(self.image_id, self.owner, image_version)
        return updates(self, None, [(version, {**existence, **columns}) for version, columns in groups])

    patch.setattr(RowWriter, "updates", late)
