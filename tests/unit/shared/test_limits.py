"""The contract refuses what Cassandra or Python's datetime cannot represent, in every field that has such a bound."""

import json
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import pytest

from shared.contract.encoding import decode_command, decode_event
from shared.contract.keys import is_image_id
from shared.errors import PoisonRecord
from tests.support.arbitrary import EXAMPLES, FORGED_ID
from tests.support.records import id_at

BOUNDS = {"width": 2**31, "height": 2**31, "size": 2**63} | dict.fromkeys(
    ("version", "image_version", "revision_version", "removed_version", "before"), 2**63
)


def places(value: Any, path: tuple[str | int, ...] = ()) -> Iterator[tuple[str | int, ...]]:
    """Paths of all fields, but those of a ladder: it is not stored, and has bounds of its own."""
    items = enumerate(value) if isinstance(value, list) else value.items() if isinstance(value, dict) else ()
    for name, content in items:
        if name != "ladder":
            yield (*path, name)
            yield from places(content, (*path, name))


BOUNDED = [(example, path) for example in EXAMPLES for path in places(example["value"]) if path[-1] in BOUNDS]


def decode(example: dict[str, Any], path: tuple[str | int, ...], value: Any) -> None:
    changed = json.loads(json.dumps(example["value"]))
    container = changed
    for name in path[:-1]:
        container = container[name]
    container[path[-1]] = value
    record = json.dumps(changed).encode()
    (decode_event if example["topic"] == "images.events" else decode_command)(record)


def test_every_bounded_field_is_in_an_example() -> None:
    assert {path[-1] for _, path in BOUNDED} >= BOUNDS.keys() - {"before"}


@pytest.mark.parametrize(("example", "path"), BOUNDED)
def test_numbers_fit_into_their_columns(example: dict[str, Any], path: tuple[str | int, ...]) -> None:
    bound = BOUNDS[str(path[-1])]
    decode(example, path, bound - 1)
    for value in (bound, -1, 10**30):
        with pytest.raises(PoisonRecord, match=str(path[-1])):
            decode(example, path, value)


@pytest.mark.parametrize("example", [each for each in EXAMPLES if "image_id" in each["value"]])
@pytest.mark.parametrize("image_id", [FORGED_ID, "e6b2f2a8-8b3c-4f0e-9d3a-1c5b7a9e0f42"])
def test_id_that_no_image_can_have_is_poison(example: dict[str, Any], image_id: str) -> None:
    with pytest.raises(PoisonRecord, match="image_id"):
        decode(example, ("image_id",), image_id)


def test_ids_before_the_year_9999_are_image_ids() -> None:
    assert is_image_id(id_at(datetime(9998, 12, 31, 23, 59, 59, 999000, UTC)))
    assert not is_image_id(id_at(datetime(9999, 1, 1, tzinfo=UTC)))
