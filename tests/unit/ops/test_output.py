"""What commands print without a terminal."""

import json
from typing import Any

import pytest

from ops.terminal.output import Output

ROWS: list[dict[str, Any]] = [{"group": "a-group-with-a-long-name" * 5, "lag": 12_000}, {"group": None, "lag": 3}]


def test_table_cells_are_never_wrapped(capsys: pytest.CaptureFixture[str]) -> None:
    Output().table(["group", "lag"], ROWS)
    header, first, second = (line.split() for line in capsys.readouterr().out.splitlines())
    assert header == ["group", "lag"]
    assert first == [ROWS[0]["group"], "12,000"]
    assert second == ["-", "3"]


def test_json_has_the_values_themselves(capsys: pytest.CaptureFixture[str]) -> None:
    Output(as_json=True).table(["group"], ROWS)
    assert json.loads(capsys.readouterr().out) == ROWS
