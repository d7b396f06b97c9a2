"""The published contract of the topics: the files are those of the code, and describe the example records."""

import json
from pathlib import Path
from typing import Any

import jsonschema_rs
import pytest

from docs.generate.events import TARGET, pages
from gateway.http.asyncapi import asyncapi
from gateway.http.events_page import page
from shared.contract.examples import example
from shared.contract.json_schema import COMMANDS, EVENTS, record_schema, schema_id
from shared.settings import Settings, Topic

NAMES = sorted(EVENTS | COMMANDS)
SPECS = Path(__file__).parents[2] / "support" / "node" / "node_modules" / "@asyncapi" / "specs"


def validator(name: str) -> jsonschema_rs.Draft202012Validator:
    return jsonschema_rs.Draft202012Validator(json.loads((TARGET / f"{name}.v1.json").read_text()))


def test_the_files_are_those_of_the_code() -> None:
    written = {path.name: path.read_bytes() for path in TARGET.glob("*.json")}
    assert written == pages(), "run `make docs`"


@pytest.mark.parametrize("name", NAMES)
def test_the_example_of_a_record_has_its_schema(name: str) -> None:
    found = example(name)
    validator(name).validate(found["value"])
    assert found["headers"]["ce_dataschema"] == schema_id(name) == record_schema(name)["$id"]


@pytest.mark.parametrize("name", NAMES)
def test_each_required_field_is_asked_for(name: str) -> None:
    value = example(name)["value"]
    for field in record_schema(name)["required"]:
        assert not validator(name).is_valid({key: each for key, each in value.items() if key != field}), field


@pytest.mark.parametrize("name", NAMES)
def test_records_of_later_releases_have_the_schema(name: str) -> None:
    value = example(name)["value"]

    def extended(part: Any) -> Any:
        if isinstance(part, dict):
            return {key: extended(each) for key, each in part.items()} | {"added_later": {"a": 1}}
        return [extended(each) for each in part] if isinstance(part, list) else part

    validator(name).validate(extended(value))


@pytest.mark.parametrize("name", NAMES)
def test_versions_are_strings_and_every_field_of_an_event_is_described(name: str) -> None:
    schema = record_schema(name)
    for part in (schema, *schema["$defs"].values()):
        for field, found in part["properties"].items():
            if field.endswith("version") and field != "schema_version":
                assert (found["type"], found["pattern"]) == ("string", "^[0-9]{1,19}$")
            if name in EVENTS and "const" not in found and part.get("title") != "Owner":
                assert found["description"], field


def test_the_asyncapi_document_is_valid_by_the_specification() -> None:
    if not SPECS.exists():
        pytest.skip("the specification's schema is not installed: `npm ci --prefix tests/support/node`")
    specification = json.loads((SPECS / "schemas" / "3.0.0.json").read_text())
    document = asyncapi(Settings())
    jsonschema_rs.validator_for(specification).validate(document)
    document["channels"]["events"]["adress"] = "x"
    assert not jsonschema_rs.validator_for(specification).is_valid(document)


def test_the_asyncapi_document_says_where_the_topics_of_the_deployment_are() -> None:
    settings = Settings(topic_prefix="blue.", topic_partitions=24)
    channels = asyncapi(settings)["channels"]
    assert channels["events"]["address"] == settings.topic(Topic.EVENTS) == "blue.images.events"
    assert channels["events"]["bindings"]["kafka"]["partitions"] == 24
    assert channels["events"]["bindings"]["kafka"]["topicConfiguration"]["cleanup.policy"] == ["compact"]
    assert set(channels["events"]["messages"]) == set(EVENTS)
    assert set(channels["commands"]["messages"]) == set(COMMANDS)


def test_every_reference_of_the_asyncapi_document_resolves() -> None:
    document = asyncapi(Settings())

    def references(part: Any) -> list[str]:
        if isinstance(part, dict):
            own = [part["$ref"]] if "$ref" in part else []
            return own + [found for each in part.values() for found in references(each)]
        return [found for each in part for found in references(each)] if isinstance(part, list) else []

    found = references(document)
    assert found
    for reference in found:
        target: Any = document
        for step in reference.removeprefix("#/").split("/"):
            target = target[step]
        assert isinstance(target, dict), reference


def test_the_page_has_every_record_and_field_and_needs_no_other_host() -> None:
    document = asyncapi(Settings())
    document["components"]["messages"]["image.ready"]["summary"] = "<script>x</script>"
    html = page(document)
    for name in NAMES:
        assert f'<h3 id="{name}">' in html
    assert "<code>current.variants[].width</code>" in html
    assert "<script" not in html
    assert "src=" not in html
    assert "//" not in html.replace("https://evanw.github.io", "").replace("https://img.example.org", "")
