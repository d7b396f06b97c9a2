"""The contract on Kafka: every example record that is checked in is read, and written again without loss."""

import json
from typing import Any

import pytest

from shared.contract.encoding import decode_command, decode_event, decode_manifest, encode
from shared.contract.events import (
    FAILURE_REASONS,
    Event,
    Manifest,
    Ready,
    event_key,
)
from shared.contract.examples import example
from shared.contract.headers import cloud_event_headers
from shared.contract.json_schema import COMMANDS, EVENTS
from shared.contract.keys import command_version, new_id
from shared.errors import PoisonRecord
from tests.support import records

NAMES = sorted(EVENTS | COMMANDS)


def decoded(found: dict[str, Any]) -> Any:
    decode = decode_event if found["topic"] == "images.events" else decode_command
    return decode(json.dumps(found["value"]).encode())


@pytest.mark.parametrize("name", NAMES)
def test_examples_are_read_and_written_again_without_loss(name: str) -> None:
    found = example(name)
    assert json.loads(encode(decoded(found))) == found["value"]


@pytest.mark.parametrize("name", NAMES)
def test_examples_have_the_key_and_headers_that_are_written_today(name: str) -> None:
    found, record = example(name), decoded(example(name))
    is_event = found["topic"] == "images.events"
    assert found["key"].encode() == (event_key(record) if is_event else record.owner.key.encode())
    source, traceparent = found["headers"]["ce_source"].lstrip("/"), found["headers"]["traceparent"]
    written = {key: value.decode() for key, value in cloud_event_headers(record, source, traceparent)}
    if not is_event:
        # A command's id is made when it is written.
        assert written.pop("ce_id") != found["headers"].pop("ce_id")
    assert written == found["headers"]


@pytest.mark.parametrize("name", NAMES)
def test_fields_of_later_versions_are_ignored(name: str) -> None:
    found = example(name)
    extended = found | {"value": found["value"] | {"added_later": {"a": 1}}}
    assert decoded(extended) == decoded(found)


@pytest.mark.parametrize("name", NAMES)
def test_unknown_schema_version_is_poison(name: str) -> None:
    found = example(name)
    found["value"]["schema_version"] = 2
    with pytest.raises(PoisonRecord, match="schema_version"):
        decoded(found)


@pytest.mark.parametrize(
    "value", [None, b"", b"{", b"[]", b'{"type":"image.unheard"}', b"\xff", b'{"type":"image.ready"}', b"[" * 1_000_000]
)
def test_invalid_record_is_poison(value: bytes | None) -> None:
    with pytest.raises(PoisonRecord):
        decode_command(value)
    with pytest.raises(PoisonRecord):
        decode_event(value)
    with pytest.raises(PoisonRecord):
        decode_manifest(value or b"")


@pytest.mark.parametrize("name", [name for name in NAMES if "request" in example(name)["value"]])
def test_event_with_an_invalid_object_key_is_poison(name: str) -> None:
    found = example(name)
    found["value"]["request"]["path"] += "\n"
    with pytest.raises(PoisonRecord, match="path"):
        decoded(found)


def test_poison_does_not_repeat_its_content() -> None:
    with pytest.raises(PoisonRecord) as caught:
        decode_command(
            b'{"type":"image.deleted","schema_version":1,"image_id":"secret-name","owner":{"type":"user","id":"1"}}'
        )
    assert "secret-name" not in str(caught.value)


def test_versions_are_decimal_strings_on_the_wire() -> None:
    version = command_version(1, 7)
    wire = json.loads(encode(records.ready(new_id(), new_id(), version)))
    assert wire["version"] == str(version)
    assert wire["request"]["revision_version"] == str(version)
    assert wire["current"]["revision_version"] == str(version)


def test_removed_names_no_file() -> None:
    assert b"file_name" not in encode(records.removed(new_id(), 4))


def test_answers_to_one_command_have_one_key_and_one_id_each() -> None:
    image, revision = new_id(), new_id()
    answers: list[Event] = [
        records.ready(image, revision, 8),
        records.failed(image, revision, 8),
        records.removed(image, 8),
    ]
    assert {event_key(answer) for answer in answers} == {f"{image}:8".encode()}
    ids = [dict(cloud_event_headers(answer, "imagepipe/processor"))["ce_id"] for answer in [*answers, answers[0]]]
    assert len(set(ids)) == 3
    assert ids[0] == ids[3]


def test_precedence_is_by_revision_and_then_by_render() -> None:
    image = new_id()

    def manifest(revision_version: int, version: int) -> Manifest:
        event = records.ready(image, new_id(), version, revision_version=revision_version)
        return Manifest(render="0" * 16, event=event)

    ordered = [manifest(2, 2), manifest(2, 10), manifest(4, 4), manifest(4, 12)]
    shuffled = [ordered[position] for position in (2, 0, 3, 1)]
    assert sorted(shuffled, key=lambda found: found.precedence) == ordered
    assert decode_manifest(encode(ordered[0])) == ordered[0]
    assert isinstance(ordered[0].event, Ready)


def test_every_failure_reason_is_explained() -> None:
    assert all(text.endswith(".") for text in FAILURE_REASONS.values())
    assert example("image.failed")["value"]["error"]["type"] in FAILURE_REASONS
