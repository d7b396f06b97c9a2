"""Column groups in Cassandra: each is one JSON text.

Rows of earlier releases have user-defined types in columns with the plain names. A reader takes them where there is no
JSON, and Cassandra converts them to JSON for it. Nothing writes them any more (ADR 20).
"""

from collections.abc import Mapping
from typing import Any

from pydantic import TypeAdapter

from shared.contract.events import Current, Request
from shared.read_model.tables import Outcome

GROUPS: Mapping[str, TypeAdapter[Any]] = {
    "request": TypeAdapter(Request),
    "outcome": TypeAdapter(Outcome),
    "current": TypeAdapter(Current),
}
"""The kind of value of each column group."""
SELECTED = ", ".join(f"{name}_json, toJson({name}) AS {name}" for name in GROUPS)
"""The column groups in a SELECT."""
WRITE_TIMES = ", ".join(f"WRITETIME({name}_json) AS {name}_json_at, WRITETIME({name}) AS {name}_at" for name in GROUPS)
"""The timestamps of the column groups in a SELECT."""
_NULL = "null"
"""What `toJson` makes of a column that is not set."""


class Texts:
    """The JSON of column groups of one record, which has the same values in three tables."""

    def __init__(self) -> None:
        self._made: dict[int, tuple[Any, str]] = {}

    def columns(self, columns: Mapping[str, Any]) -> dict[str, Any]:
        """The columns as they are stored."""
        return {
            (f"{name}_json" if name in GROUPS else name): self._text(name, value) if name in GROUPS else value
            for name, value in columns.items()
        }

    def _text(self, name: str, value: Any) -> str:
        # The value is kept beside its text, so that no other value gets the same id.
        _, text = self._made.get(id(value)) or self._made.setdefault(
            id(value), (value, GROUPS[name].dump_json(value).decode())
        )
        return text


def stored_text(name: str, row: Any) -> str | None:
    """The JSON of a column group in a result row that has SELECTED; None if it is not set."""
    text: str | None = getattr(row, f"{name}_json")
    if text is None:
        text = getattr(row, name)
    return None if text == _NULL else text


def write_time(name: str, row: Any) -> int | None:
    """The timestamp of the text that `stored_text` returns, in a result row that has WRITE_TIMES too."""
    written: int | None = getattr(row, f"{name}_json_at")
    return getattr(row, f"{name}_at") if written is None else written


def parsed(name: str, text: str | None) -> Any:
    """The value of a column group; None if it is not set. Raises pydantic's ValidationError."""
    return None if text is None else GROUPS[name].validate_json(text)
