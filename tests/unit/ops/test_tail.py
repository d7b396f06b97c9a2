"""How `tail` and the DLQ's commands show a record, valid or not."""

import json
from typing import Any
from uuid import UUID

import pytest

from ops.commands.tail import show
from ops.log.summary import summary
from ops.terminal.output import Output
from shared.consuming.record import ConsumedRecord
from shared.contract.encoding import encode
from shared.settings import Topic
from tests.support.records import POISON, failed, uploaded


def record(value: bytes | None) -> ConsumedRecord:
    return ConsumedRecord(Topic.EVENTS, 3, 17, b"key", value, (), 1_700_000_000.0)


def shown(value: bytes | None, capsys: pytest.CaptureFixture[str], *, as_json: bool = False) -> str:
    show(record(value), summary(record(value)), Output(as_json))
    return capsys.readouterr().out


@pytest.mark.parametrize("value", POISON, ids=lambda value: str(value)[:40])
def test_invalid_record_is_shown_in_one_line(value: bytes | None, capsys: pytest.CaptureFixture[str]) -> None:
    line = shown(value, capsys)
    assert (line.count("\n"), "3:17" in line, "\x1b" in line) == (1, True, False)
    document: dict[str, Any] = json.loads(shown(value, capsys, as_json=True))
    assert document["image_id"] is None or UUID(document["image_id"])
    assert all(document[name] is None or isinstance(document[name], str) for name in ("type", "owner"))


def test_record_is_shown_with_type_and_image(capsys: pytest.CaptureFixture[str]) -> None:
    command = uploaded()
    event = failed(command.image_id, command.revision, 42)
    line = shown(encode(event), capsys)
    for part in ("image.failed", str(command.image_id), command.owner.key, " v42 ", event.error.type):
        assert part in line
    assert "image.uploaded" in shown(encode(command), capsys)


@pytest.mark.parametrize("text", ["{%s}", "urn:uuid:%s"])
def test_id_is_shown_as_in_object_keys(text: str) -> None:
    image_id = UUID("0199aaaa-bbbb-7ccc-8ddd-eeeeffff0000")
    content = json.dumps({"image_id": text % str(image_id).upper()}).encode()
    assert summary(record(content))["image_id"] == str(image_id)
