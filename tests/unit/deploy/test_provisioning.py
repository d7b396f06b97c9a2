"""Topics, tables and bucket of a local stack that has just started."""

from datetime import timedelta

import pytest

from deploy.local import provisioning
from shared.errors import Unavailable
from shared.settings import Settings


async def test_a_node_that_times_out_on_its_first_writes_is_asked_again(monkeypatch: pytest.MonkeyPatch) -> None:
    answers: list[Exception | None] = [Unavailable("cassandra", "WriteTimeout"), None]

    def apply_schema(_settings: Settings) -> None:
        if error := answers.pop(0):
            raise error

    async def no_pause(_seconds: float) -> None:
        return None

    monkeypatch.setattr("shared.cassandra.schema.apply_schema", apply_schema)
    monkeypatch.setattr("shared.retry.asyncio.sleep", no_pause)
    await provisioning._apply_schema(Settings(_env_file=None))
    assert answers == []

    answers.append(Unavailable("cassandra", "gone"))
    monkeypatch.setattr(provisioning, "SCHEMA_RETRY_LIMIT", timedelta())
    with pytest.raises(Unavailable, match="gone"):
        await provisioning._apply_schema(Settings(_env_file=None))
