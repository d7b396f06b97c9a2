"""Summary of a record of any topic, also of an invalid record: the fields that operators need, as JSON."""

from datetime import UTC, datetime
from typing import Any
from uuid import UUID

from shared.consuming.record import ConsumedRecord
from shared.contract.keys import Owner
from shared.contract.untrusted_json import read_json


def summary(record: ConsumedRecord) -> dict[str, Any]:
    """`type`, `owner` and `image_id` of a record, or None if it has none; `record` is the whole record."""
    content = _object(record.value)
    return {
        "time": datetime.fromtimestamp(record.appended_at or 0, UTC).isoformat(timespec="milliseconds"),
        "partition": record.partition,
        "offset": record.offset,
        "type": one_line(content.get("type")),
        "owner": _owner(content.get("owner")),
        "image_id": _uuid(content.get("image_id")),
        "record": content or None,
    }


def _object(value: bytes | None) -> dict[str, Any]:
    try:
        content = read_json(value or b"")
    except ValueError:
        return {}
    return content if isinstance(content, dict) else {}


def one_line(value: Any) -> str | None:
    """The value if it is a text of one line, otherwise None. Other values are shown only with the whole record."""
    return value if isinstance(value, str) and value.isprintable() else None


def _uuid(value: Any) -> str | None:
    try:
        return str(UUID(value)) if isinstance(value, str) else None
    except ValueError:
        return None


def _owner(value: Any) -> str | None:
    try:
        return Owner.model_validate(value).key
    except ValueError:
        return None
