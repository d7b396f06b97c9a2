"""Records of the client libraries become records of ours."""

from types import SimpleNamespace

import pytest

from shared.consuming.record import ConsumedRecord
from shared.settings import Topic


@pytest.mark.parametrize(
    ("timestamp", "appended_at"),
    [
        (1_700_000_000_500, 1_700_000_000.5),
        (-1, None),
        (2**63 - 1, None),
        (-(2**63), None),
        (253_370_764_800_000, None),
    ],
)
def test_record_of_aiokafka_keeps_every_field_and_has_a_time_if_kafka_has_one(
    timestamp: int, appended_at: float | None
) -> None:
    headers = (("traceparent", b"00-1-2-01"), ("empty", None))
    record = SimpleNamespace(
        topic="eu.images.events", partition=3, offset=17, key=b"k", value=None, headers=headers, timestamp=timestamp
    )
    assert ConsumedRecord.from_aiokafka(Topic.EVENTS, record) == ConsumedRecord(
        Topic.EVENTS, 3, 17, b"k", None, list(headers), appended_at
    )


def test_timestamp_is_exact_and_headers_without_a_value_are_absent() -> None:
    headers = (("traceparent", b"00-1-2-01"), ("empty", None))
    for milliseconds in range(1_700_000_000_000, 1_700_000_001_000):
        assert ConsumedRecord(Topic.DLQ, 0, 1, None, None, headers, milliseconds / 1000).timestamp == milliseconds
    record = ConsumedRecord(Topic.DLQ, 0, 1, None, None, headers)
    assert (record.timestamp, record.present_headers) == (0, [("traceparent", b"00-1-2-01")])
