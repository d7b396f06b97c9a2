"""Each field that is written to Cassandra has its column or its field in a user-defined type.

The driver reads an object's attributes by the names of the type's fields. An attribute without such a field is left
out of the write, and no error is raised.
"""

import re
from collections.abc import Iterable
from dataclasses import fields
from uuid import UUID

import pytest
from pydantic import BaseModel

from shared.cassandra.column_groups import GROUPS
from shared.cassandra.cql import COLUMNS
from shared.cassandra.schema import migration_files, statements
from shared.contract.events import Current, Original, Request, Variant
from shared.read_model.tables import IMAGE_TABLES, Outcome

MODELS: dict[str, type[BaseModel]] = {"original": Original, "request": Request, "variant": Variant, "current": Current}
"""What is written into each type. The fifth type, `outcome`, has a dataclass."""
STATEMENT = re.compile(
    r"(CREATE (?P<kind>TYPE|TABLE) IF NOT EXISTS (?P<name>\w+)\s*\((?P<fields>.*)\)(\s*WITH .*)?"
    r"|ALTER (TYPE|TABLE) (?P<altered>\w+) ADD IF NOT EXISTS (?P<added>.*))",
    re.DOTALL,
)
CQL_TYPES: dict[object, set[str]] = {
    str: {"text"},
    int: {"int", "bigint"},
    UUID: {"uuid"},
    Original: {"frozen<original>"},
    tuple[Variant, ...]: {"frozen<list<frozen<variant>>>"},
    tuple[str, ...]: {"frozen<list<text>>"},
}
"""The types of CQL that can hold a field of this annotation."""


def schema_of(migrations: Iterable[str]) -> dict[str, dict[str, str]]:
    """Types and tables: the CQL type of each field or column by its name, in the order in which they are declared."""
    schema: dict[str, dict[str, str]] = {}
    for statement in (each for cql in migrations for each in statements(cql)):
        match = STATEMENT.fullmatch(statement)
        assert match is not None, f"a migration may only add, and repeatably: {statement}"
        declared = schema.setdefault(match["name"] or match["altered"], {})
        body = re.sub(r",\s*PRIMARY KEY\s*\(.*\)\s*$", "", match["fields"] or match["added"], flags=re.DOTALL)
        for part in body.split(","):
            name, kind = part.split()[:2]
            declared.setdefault(name, kind)
    return schema


def fields_without_place(model: type[BaseModel], declared: dict[str, str]) -> set[str]:
    """Fields of a model that the type does not declare, or declares for other values."""
    return {
        name
        for name, field in model.model_fields.items()
        if declared.get(name) not in CQL_TYPES.get(field.annotation, set())
    }


SCHEMA = schema_of(path.read_text() for path in migration_files())


@pytest.mark.parametrize("name", MODELS)
def test_each_field_of_a_model_has_a_field_in_its_type(name: str) -> None:
    assert fields_without_place(MODELS[name], SCHEMA[name]) == set()


def test_an_outcome_has_the_fields_of_its_type() -> None:
    """A later migration may have added more."""
    assert {field.name for field in fields(Outcome)} <= SCHEMA["outcome"].keys()


@pytest.mark.parametrize("table", IMAGE_TABLES)
def test_each_table_has_every_column_of_an_image(table: str) -> None:
    assert set(re.sub(r"toJson\((\w+)\) AS \1", r"\1", COLUMNS).split(", ")) <= SCHEMA[table].keys()
    groups = {name: SCHEMA[table][name] for name in GROUPS}
    assert groups == {name: f"frozen<{name}>" for name in groups}


class SharpVariant(Variant):
    """A variant with a field that no migration knows."""

    sharpness: int = 0


def test_field_without_a_migration_is_found() -> None:
    assert fields_without_place(SharpVariant, SCHEMA["variant"]) == {"sharpness"}
    old = [path.read_text() for path in migration_files()]
    added = schema_of([*old, "-- Sharp.\nALTER TYPE variant ADD IF NOT EXISTS sharpness int;"])
    assert fields_without_place(SharpVariant, added["variant"]) == set()
    of_other_type = schema_of([*old, "ALTER TYPE variant ADD IF NOT EXISTS sharpness text;"])
    assert fields_without_place(SharpVariant, of_other_type["variant"]) == {"sharpness"}


@pytest.mark.parametrize(
    "statement", ["DROP TABLE images", "ALTER TABLE images DROP outcome", "CREATE TABLE images (image_id uuid)"]
)
def test_migration_that_does_not_only_add_is_refused(statement: str) -> None:
    with pytest.raises(AssertionError, match="may only add"):
        schema_of([statement])
