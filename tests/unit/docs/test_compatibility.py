"""The check of a new schema against a released one: what breaks a reader is refused, in a sentence."""

import copy
from collections.abc import Callable
from typing import Any

import pytest

from docs.generate.compatibility import ADVICE, breaks
from shared.contract.json_schema import COMMANDS, EVENTS, record_schema


def variant(schema: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = schema["$defs"]["Variant"]
    return found


def remove(schema: dict[str, Any]) -> None:
    del variant(schema)["properties"]["width"]
    variant(schema)["required"].remove("width")


def retype(schema: dict[str, Any]) -> None:
    variant(schema)["properties"]["width"]["type"] = "number"


def narrow(schema: dict[str, Any]) -> None:
    schema["properties"]["answers"]["enum"].remove("image.reprocess")


def restrict(schema: dict[str, Any]) -> None:
    variant(schema)["properties"]["name"]["enum"] = ["full"]


def require_a_new_field(schema: dict[str, Any]) -> None:
    variant(schema)["properties"]["format"] = {"type": "string"}
    variant(schema)["required"].append("format")


def require_an_old_field(schema: dict[str, Any]) -> None:
    schema["$defs"]["Current"]["required"].append("notes")


def make_optional(schema: dict[str, Any]) -> None:
    schema["required"].remove("owner")


def other_pattern(schema: dict[str, Any]) -> None:
    schema["properties"]["version"]["pattern"] = "^[0-9]{1,20}$"


def remove_a_part(schema: dict[str, Any]) -> None:
    del schema["properties"]["current"]
    schema["required"].remove("current")


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (remove, "`current.variants[].width` was removed"),
        (retype, "`current.variants[].width` was integer and is now number"),
        (narrow, "`answers` can no longer be image.reprocess"),
        (restrict, "`current.variants[].name` can no longer be any other value"),
        (require_a_new_field, "`current.variants[].format` is new and required, and older records lack it"),
        (require_an_old_field, "`current.notes` is required now, and older records lack it"),
        (make_optional, "`owner` may be missing now"),
        (other_pattern, "`version` has another pattern"),
        (remove_a_part, "`current` was removed"),
    ],
)
def test_a_change_that_breaks_a_reader_is_refused(change: Callable[[dict[str, Any]], None], sentence: str) -> None:
    old = record_schema("image.ready")
    new = copy.deepcopy(old)
    change(new)
    assert f"{sentence}. {ADVICE}" in breaks(old, new)


def test_an_optional_field_may_be_added_and_an_enumeration_may_grow() -> None:
    old = record_schema("image.ready")
    new = copy.deepcopy(old)
    variant(new)["properties"]["format"] = {"type": "string"}
    new["properties"]["answers"]["enum"].append("image.rotated")
    new["properties"]["answers"]["description"] = "Other words."
    assert breaks(old, new) == []


@pytest.mark.parametrize("name", sorted(EVENTS | COMMANDS))
def test_a_schema_is_compatible_with_itself(name: str) -> None:
    assert breaks(record_schema(name), record_schema(name)) == []
