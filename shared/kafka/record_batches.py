"""Makes aiokafka read records whose headers have names that are not UTF-8.

Kafka defines the name of a header as UTF-8 text, and no broker checks that. aiokafka (0.14.0) raises an error for such
a record each time that it reads it. One record, which every client with write access can append, then stops its
partition for the services and for the operators' commands (invariant 10). Here the name is decoded with backslashes:
the byte 0xff becomes the four characters `\\xff`. So the record is handled like any other, and a dead letter of it
can be written.
"""

from collections.abc import Iterator
from itertools import islice
from typing import Any

from aiokafka.consumer import fetcher
from aiokafka.errors import CorruptRecordException
from aiokafka.record.default_records import _DefaultRecordBatchPy
from aiokafka.record.memory_records import _MemoryRecordsPy


def accept_any_header_name() -> None:
    """Make all aiokafka consumers of this process accept any names of headers. Call it before a consumer is made."""
    fetcher.MemoryRecords = _MemoryRecords


class _MemoryRecords(_MemoryRecordsPy):  # type: ignore[misc]
    """The batches of one response of a broker."""

    def next_batch(self) -> Any:
        data = self._next_slice
        batch = super().next_batch()
        return batch if batch is None or batch.is_control_batch else _Batch(batch, data)


class _Batch:
    """A batch as aiokafka's compiled parser reads it, and as its Python parser does if the other one fails."""

    def __init__(self, batch: Any, data: memoryview) -> None:
        self._batch = batch
        self._data = data

    def __getattr__(self, name: str) -> Any:
        return getattr(self._batch, name)

    def __iter__(self) -> Iterator[Any]:
        count = 0
        try:
            for record in self._batch:
                yield record
                count += 1
        except (UnicodeDecodeError, CorruptRecordException):
            # A batch that is corrupt raises the error again.
            yield from islice(_AnyNames(self._data), count, None)


class _AnyNames(_DefaultRecordBatchPy):  # type: ignore[misc]
    """The Python parser, with names of headers decoded from any bytes."""

    def _maybe_uncompress(self) -> None:
        super()._maybe_uncompress()
        self._buffer = _Buffer(self._buffer)  # type: ignore[has-type]


class _Buffer(bytearray):
    """Bytes of which each part, decoded, is a text: bytes that are not UTF-8 become escape sequences."""

    def __getitem__(self, place: Any) -> Any:
        part = super().__getitem__(place)
        return part if isinstance(part, int) else _Buffer(part)

    def decode(self, _encoding: str = "utf-8", _errors: str = "strict") -> str:
        return super().decode("utf-8", "backslashreplace")
