"""Whether Cassandra can store a write: serialises its values as the driver does for the columns."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, is_dataclass
from datetime import date, datetime
from typing import Any
from uuid import UUID

from cassandra.cqltypes import DateType, Int32Type, LongType, SimpleDateType, UTF8Type, UUIDType
from pydantic import BaseModel

from shared.read_model.tables import Delete, Insert, Write


def storable(writes: Sequence[Write]) -> None:
    """Serialise all values of the writes. Raises what the driver raises for one that has no representation."""
    for write in writes:
        assert len(LongType.serialize(write.version, 5)) == 8
        columns = {} if isinstance(write, Delete) else write.columns
        key = {} if isinstance(write, Insert) else write.key
        _serialize("", columns | key)


def _serialize(name: str, value: Any) -> None:
    """Serialise a value as the driver does for the column of this name. Raises what the driver raises."""
    match value:
        case BaseModel() | Mapping():
            for field, content in value.items() if isinstance(value, Mapping) else value:
                _serialize(field, content)
        case tuple():
            for content in value:
                _serialize(name, content)
        case _ if is_dataclass(value) and not isinstance(value, type):
            _serialize(name, asdict(value))
        case datetime():
            DateType.serialize(value, 5)
        case date():
            SimpleDateType.serialize(value, 5)
        case UUID():
            UUIDType.serialize(value, 5)
        case int():
            (Int32Type if name in ("width", "height", "shard", "bucket") else LongType).serialize(value, 5)
        case str():
            UTF8Type.serialize(value, 5)
        case _:
            assert value is None, (name, value)
