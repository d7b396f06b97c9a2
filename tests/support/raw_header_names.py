"""Records with names of headers that are no text, as a client in another language can write them."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Self

import pytest
from aiokafka.producer import message_accumulator, producer
from aiokafka.record.default_records import _DefaultRecordBatchBuilderPy


class RawName(str):
    """A name that aiokafka's encoder in Python writes as these bytes."""

    raw: bytes

    def __new__(cls, raw: bytes) -> Self:
        made = super().__new__(cls, raw.decode("latin-1"))
        made.raw = raw
        return made

    def encode(self, _encoding: str = "utf-8", _errors: str = "strict") -> bytes:
        return self.raw


@contextmanager
def writing_raw_names() -> Iterator[None]:
    """Producers that send in this context use the encoder in Python."""
    with pytest.MonkeyPatch.context() as patch:
        for module in (message_accumulator, producer):
            patch.setattr(module, "DefaultRecordBatchBuilder", _DefaultRecordBatchBuilderPy)
        yield
