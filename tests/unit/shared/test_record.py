"""Records of the client libraries become records of ours."""

from types import SimpleNamespace

import pytest

from shared.consuming.record import ConsumedRecord
from shared.settings import Topic


@pytest.mark.parametrize(("timestamp", "appended_at"), [(1_700_000_000_500, 1_700_000_000.5), (-1, None)])
def test_a_record_of_aiokafka_keeps_everything_but_a_time_that_it_does_not_have(
    timestamp: int, appended_at: float | None
) -> None:
    headers = (("traceparent", b"00-1-2-01"), ("empty", None))
    record = SimpleNamespace(
        topic="eu.images.events", partition=3, offset=17, key=b"k", value=None, headers=headers, timestamp=timestamp
    )
    assert ConsumedRecord.from_aiokafka(Topic.EVENTS, record) == ConsumedRecord(
        Topic.EVENTS, 3, 17, b"k", None, list(headers), appended_at
    )
