"""Column groups that Cassandra has converted to JSON."""

import pytest
from pydantic import TypeAdapter

from shared.cassandra.column_groups import CURRENT, OUTCOME, REQUEST, parsed
from shared.contract.keys import new_id
from shared.read_model.tables import Outcome
from tests.support import records


def test_a_column_group_is_read_from_json() -> None:
    event = records.ready(new_id(), new_id(), 10)
    outcome = Outcome(new_id(), "failed", "truncated", 'The "file" ends — early.')
    assert parsed(REQUEST, event.request.model_dump_json()) == event.request
    assert parsed(CURRENT, event.current.model_dump_json()) == event.current
    assert parsed(OUTCOME, TypeAdapter(Outcome).dump_json(outcome).decode()) == outcome


@pytest.mark.parametrize("text", [None, "null"])
def test_a_column_group_that_is_not_set_is_none(text: str | None) -> None:
    assert parsed(CURRENT, text) is None
