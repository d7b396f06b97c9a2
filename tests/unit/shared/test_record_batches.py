"""Batches with any names of headers: every record is read, and only what is corrupt raises an error."""

from typing import Any

import pytest
from aiokafka.errors import CorruptRecordException
from aiokafka.record.default_records import _DefaultRecordBatchBuilderPy
from aiokafka.record.memory_records import MemoryRecords
from hypothesis import given
from hypothesis import strategies as st

from shared.kafka.record_batches import _MemoryRecords
from tests.support.raw_header_names import RawName

GZIP = 1
HEADERS = st.lists(st.tuples(st.binary(max_size=5), st.none() | st.binary(max_size=5)), max_size=3)
RECORDS = st.lists(st.tuples(st.none() | st.binary(max_size=5), st.none() | st.binary(max_size=5), HEADERS), min_size=1)


def batch(records: list[Any], compression: int = 0) -> bytes:
    """A batch as it is in the log."""
    builder = _DefaultRecordBatchBuilderPy(
        magic=2, compression_type=compression, is_transactional=0, producer_id=-1, producer_epoch=-1,
        base_sequence=-1, batch_size=1_000_000,
    )  # fmt: skip
    for number, (key, value, headers) in enumerate(records):
        builder.append(number, 1, key, value, [(RawName(name), content) for name, content in headers])
    return bytes(builder.build())


def read(log: bytes, kind: Any = _MemoryRecords) -> list[Any]:
    found, records = [], kind(log)
    while records.has_next():
        one = records.next_batch()
        assert one.validate_crc()
        found += [(record.offset, record.key, record.value, list(record.headers)) for record in one]
    return found


@given(records=RECORDS, compression=st.sampled_from([0, GZIP]))
def test_every_record_is_read_with_its_own_headers(records: list[Any], compression: int) -> None:
    expected = [
        (number, key, value, [(name.decode(errors="backslashreplace"), content) for name, content in headers])
        for number, (key, value, headers) in enumerate(records)
    ]
    log = batch(records, compression)
    assert read(log * 2) == expected * 2
    if all(name.isascii() for _, _, headers in records for name, _ in headers):
        assert read(log, MemoryRecords) == expected


def test_aiokafka_alone_does_not_read_the_rest_of_the_batch() -> None:
    """The reason for `record_batches`."""
    log = batch([(b"k", b"1", []), (b"k", b"2", [(b"\xff", b"")]), (b"k", b"3", [])])
    with pytest.raises(UnicodeDecodeError):
        read(log, MemoryRecords)
    assert [value for _, _, value, _ in read(log)] == [b"1", b"2", b"3"]


def test_a_corrupt_batch_is_still_an_error() -> None:
    log = bytearray(batch([(b"k", b"value", [(b"\xff", b"x")])]))
    # The length of the header's value, which is the last but one byte.
    log[-2] = 20
    (one,) = [_MemoryRecords(bytes(log)).next_batch()]
    with pytest.raises((CorruptRecordException, UnicodeDecodeError)):
        list(one)
