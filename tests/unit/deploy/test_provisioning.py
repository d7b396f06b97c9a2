"""Topics, tables and bucket of a local stack that has just started."""

from datetime import timedelta

import pytest

from deploy.local import provisioning
from shared.errors import Unavailable
from shared.settings import Settings


async def test_schema_is_applied_again_after_a_write_timeout(monkeypatch: pytest.MonkeyPatch) -> None:
    answers: list[Exception | None] = [Unavailable("cassandra", "WriteTimeout"), None]

    def apply_schema(_settings: Settings) -> None:
        if error := answers.pop(0):
            raise error

    async def no_pause(_seconds: float) -> None:
        return None

    monkeypatch.setattr("shared.cassandra.schema.apply_schema", apply_schema)
    monkeypatch.setattr("shared.retry.asyncio.sleep", no_pause)
    await provisioning.apply_schema_with_retries(Settings(_env_file=None))
    assert answers == []

    answers.append(Unavailable("cassandra", "gone"))
    monkeypatch.setattr(provisioning, "SCHEMA_RETRY_LIMIT", timedelta())
    with pytest.raises(Unavailable, match="gone"):
        await provisioning.apply_schema_with_retries(Settings(_env_file=None))
