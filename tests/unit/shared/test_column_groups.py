"""Column groups as they are stored: JSON, and the user-defined types of earlier releases."""

from types import SimpleNamespace

import pytest

from shared.cassandra.column_groups import Texts, parsed, stored_text, write_time
from shared.contract.keys import new_id
from shared.read_model.tables import Outcome
from tests.support import records


def test_column_groups_are_stored_as_json_and_other_columns_as_they_are() -> None:
    event = records.ready(new_id(), new_id(), 10)
    outcome = Outcome(new_id(), "failed", "truncated", 'The "file" ends — early.')
    columns = {"image_version": 7, "request": event.request, "outcome": outcome, "current": event.current}
    stored = Texts().columns(columns)
    assert stored.keys() == {"image_version", "request_json", "outcome_json", "current_json"}
    assert stored["image_version"] == 7
    assert {name: parsed(name, stored[f"{name}_json"]) for name in columns.keys() - {"image_version"}} == {
        "request": event.request,
        "outcome": outcome,
        "current": event.current,
    }


def test_texts_of_different_values_are_not_mixed_up() -> None:
    texts = Texts()
    for number in range(1000):
        # Each outcome is freed at once, so that many would have the same id.
        [text] = texts.columns({"outcome": Outcome(new_id(), f"status {number}")}).values()
        assert f"status {number}" in text


@pytest.mark.parametrize(
    ("json", "old", "shown"),
    [("new", "old", "new"), (None, "old", "old"), ("new", "null", "new"), (None, "null", None), (None, None, None)],
)
def test_json_is_preferred_to_the_column_of_an_earlier_release(json: str | None, old: str, shown: str | None) -> None:
    row = SimpleNamespace(current_json=json, current=old, current_json_at=json and 2, current_at=1)
    assert stored_text("current", row) == shown
    assert write_time("current", row) == (2 if json else 1)


def test_a_column_group_that_is_not_set_is_none() -> None:
    assert parsed("current", None) is None
