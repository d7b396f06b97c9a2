"""The published JSON Schema of each command and event, generated from the models. `docs/events` has them as files."""

import json
from collections.abc import Sequence
from typing import Any, get_args

from pydantic.json_schema import GenerateJsonSchema, models_json_schema

from shared.contract.events import SCHEMA_VERSION, Command, Event, Model
from shared.contract.examples import example

DIALECT = "https://json-schema.org/draft/2020-12/schema"

Schema = dict[str, Any]


def record_type(model: type[Model]) -> str:
    """The type of a command or event, such as `image.ready`."""
    name: str = model.model_fields["type"].default
    return name


def _models(union: Any) -> tuple[type[Model], ...]:
    return tuple(each for member in get_args(union) for each in (_models(member) or (member,)))


EVENTS = {record_type(model): model for model in _models(Event)}
"""Models of the events by their type."""
COMMANDS = {record_type(model): model for model in _models(Command)}
"""Models of the commands by their type."""


def schema_id(name: str) -> str:
    """The `$id` of a record's schema, which the record's header `ce_dataschema` names."""
    return f"urn:imagepipe:{name}:v{SCHEMA_VERSION}"


def file_name(name: str) -> str:
    """Name of the file that holds the schema of this type of record."""
    return f"{name}.v{SCHEMA_VERSION}.json"


class _ReadersSchema(GenerateJsonSchema):
    """Says what a reader can rely on in the records of a whole schema version."""

    def field_title_should_be_set(self, schema: Any) -> bool:
        # A title would repeat the name of the field.
        return False


def schemas(models: Sequence[type[Model]], ref_template: str) -> tuple[list[Schema], dict[str, Schema]]:
    """The schemas of these models and of the parts that they share.

    A field that records need not have has a default and is not in `required`: a later release may add such fields, and
    older records lack them. Objects are open for the same reason.
    """
    refs, found = models_json_schema(
        [(model, "serialization") for model in models], ref_template=ref_template, schema_generator=_ReadersSchema
    )
    parts: dict[str, Schema] = found["$defs"]
    for part in parts.values():
        _open(part)
    names = [refs[model, "serialization"]["$ref"].rpartition("/")[2] for model in models]
    records = [parts.pop(name) for name in names]
    return records, dict(sorted(parts.items()))


def _open(part: Schema) -> None:
    part.pop("additionalProperties", None)
    constants = [name for name, field in part["properties"].items() if "const" in field]
    for name in constants:
        # Every record has them, although the models have defaults for them.
        part["properties"][name].pop("default", None)
    part["required"] = [*constants, *part.get("required", [])]


def published(document: Schema) -> bytes:
    """A document as it is in `docs/events` and as the gateway serves it."""
    return json.dumps(document, indent=2, ensure_ascii=False).encode() + b"\n"


def record_schema(name: str) -> Schema:
    """The JSON Schema of the value of records of this type. Raises KeyError for an unknown type."""
    (record,), parts = schemas([(EVENTS | COMMANDS)[name]], "#/$defs/{model}")
    head = {"$schema": DIALECT, "$id": schema_id(name)}
    return head | record | {"examples": [example(name, SCHEMA_VERSION)["value"]], "$defs": parts}
