"""The conformance kit: its records are as published, a right consumer passes, each wrong one is found by its case."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jsonschema_rs
import pytest

from client.consumers import aiokafka_table
from imagepipe_client.conformance.cases import CASES, cases
from imagepipe_client.conformance.judge import differences
from shared.contract.encoding import decode_event, encode
from shared.contract.headers import cloud_event_headers

SCHEMAS = Path(__file__).parents[3] / "docs" / "events"
SKIPPED = {"unknown type", "unknown schema version"}

Event = dict[str, Any]
Table = dict[str, str]


def url(event: Event) -> str:
    found: str = event["current"]["variants"][0]["url"]
    return found


def test_records_have_the_published_schemas_and_headers() -> None:
    for case in cases():
        for record in case.records[: 1 if case.name in SKIPPED else None]:
            if record.data is None:
                continue
            value = json.loads(record.data)
            schema = json.loads((SCHEMAS / f"{value['type']}.v1.json").read_text())
            jsonschema_rs.Draft202012Validator(schema).validate(value)
            event = decode_event(record.data)
            assert record.headers == cloud_event_headers(event, "imagepipe/processor")
            if case.name != "unknown field":
                assert json.loads(encode(event)) == value


def test_no_two_cases_are_of_one_image() -> None:
    found = cases()
    assert len({case.image.id for case in found}) == len({case.name for case in found}) == len(found) == len(CASES)


def table(handle: Callable[[Event, Table], None]) -> Table:
    """The table of a consumer after all records. One that fails at a record goes on with the next."""
    served: Table = {}
    for case in cases():
        for record in case.records:
            try:
                handle(json.loads(record.data or b"null"), served)
            except (KeyError, TypeError):
                continue
    return served


def test_the_example_passes() -> None:
    def handle(event: Event | None, _: Table) -> None:
        if event is not None:
            aiokafka_table.handle(event)

    table(handle)
    assert differences(cases(), aiokafka_table.served, {}) == []


class Consumer:
    """A right consumer, whose methods the wrong ones override."""

    def __init__(self) -> None:
        self.versions: dict[str, Any] = {}
        self.removed: set[str] = set()

    def version(self, event: Event) -> Any:
        return int(event["version"])

    def __call__(self, event: Event, served: Table) -> None:
        if event["schema_version"] == 1:
            self.handle(event, served)

    def handle(self, event: Event, served: Table) -> None:
        if event["type"] == "image.removed":
            self.removed.add(event["image_id"])
            served.pop(event["image_id"], None)
        elif event["type"] == "image.ready" and self.is_newer(event):
            self.versions[event["image_id"]] = self.version(event)
            served[event["image_id"]] = url(event)

    def is_newer(self, event: Event) -> bool:
        known = self.versions.get(event["image_id"])
        return event["image_id"] not in self.removed and (known is None or self.version(event) > known)


class LastRecordWins(Consumer):
    def is_newer(self, event: Event) -> bool:
        return event["image_id"] not in self.removed


class Floats(Consumer):
    def version(self, event: Event) -> float:
        return float(event["version"])


class FloatsOrEqual(Floats):
    def is_newer(self, event: Event) -> bool:
        return event["image_id"] not in self.removed and self.version(event) >= self.versions.get(event["image_id"], 0)


class Text(Consumer):
    def version(self, event: Event) -> str:
        return str(event["version"])


class ForgetsRemovals(Consumer):
    def is_newer(self, event: Event) -> bool:
        self.removed.clear()
        return super().is_newer(event)


class FailureEnds(Consumer):
    def handle(self, event: Event, served: Table) -> None:
        super().handle(event, served)
        if event["type"] == "image.failed":
            served.pop(event["image_id"], None)


class FailureCounts(Consumer):
    def handle(self, event: Event, served: Table) -> None:
        super().handle(event, served)
        if event["type"] == "image.failed":
            self.versions[event["image_id"]] = self.version(event)


class SupersededEnds(Consumer):
    def handle(self, event: Event, served: Table) -> None:
        super().handle(event, served)
        if event["type"] == "image.superseded":
            served.pop(event["image_id"], None)


class AnyCurrent(Consumer):
    def handle(self, event: Event, served: Table) -> None:
        super().handle(event | {"type": "image.ready"} if "current" in event else event, served)


class AnySchema(Consumer):
    def __call__(self, event: Event, served: Table) -> None:
        self.handle(event, served)


class Strict(Consumer):
    def handle(self, event: Event, served: Table) -> None:
        if "added_later" not in event:
            super().handle(event, served)


class FirstWins(Consumer):
    def is_newer(self, event: Event) -> bool:
        return super().is_newer(event) and event["image_id"] not in self.versions


class OnlyNewRevisions(Consumer):
    def is_newer(self, event: Event) -> bool:
        return super().is_newer(event) and event["answers"] != "image.reprocess"


def stops_at_a_null(event: Event | None, served: Table) -> None:
    if event is None:
        stopped.append(True)
    if event is not None and not stopped:
        right(event, served)


right = Consumer()
stopped: list[bool] = []

WRONG: dict[str, tuple[Callable[[Event, Table], None], set[str]]] = {
    "last record wins": (LastRecordWins(), {"late answer", "late first", "large versions, late answer"}),
    "floating point": (Floats(), {"large versions"}),
    "floating point, or equal": (FloatsOrEqual(), {"large versions, late answer"}),
    "text": (Text(), {"new epoch"}),
    "forgets removals": (ForgetsRemovals(), {"removal first"}),
    "a failure ends it": (FailureEnds(), {"failed replacement"}),
    "a failure counts": (FailureCounts(), {"answer after a failed replacement"}),
    "superseded ends it": (SupersededEnds(), {"superseded"}),
    "any type": (AnyCurrent(), {"unknown type"}),
    "any schema": (AnySchema(), {"unknown schema version"}),
    "strict": (Strict(), {"unknown field"}),
    "no reprocess": (OnlyNewRevisions(), {"rendered again"}),
}


@pytest.mark.parametrize("name", WRONG)
def test_a_wrong_consumer_is_found_by_its_case(name: str) -> None:
    handle, expected = WRONG[name]
    found = {sentence.partition(" (")[0] for sentence in differences(cases(), table(handle), {})}
    assert found == expected


def test_the_first_record_wins_is_found() -> None:
    found = {sentence.partition(" (")[0] for sentence in differences(cases(), table(FirstWins()), {})}
    assert {"replaced", "late answer", "rendered again", "superseded"} <= found


def test_a_consumer_that_stops_at_a_record_without_a_value_is_found() -> None:
    found = [sentence.partition(" (")[0] for sentence in differences(cases(), table(stops_at_a_null), {})]
    assert "no value" in found


def test_the_sentence_says_what_the_table_has_and_must_have() -> None:
    [ready, *_] = cases()
    assert differences([ready], {"x": "y"}, {}) == [
        f"ready ({ready.image.id}): An image.ready is served. The table has no entry, and must have {ready.served}.",
        "unknown image (x): no event named it.",
    ]


def test_the_sentence_says_what_a_restart_has_lost() -> None:
    [ready, *_] = cases()
    [lost] = differences([ready], {}, {ready.image.id: ready.served})
    assert lost.endswith(". The table had it before the consumer was killed and started again.")
