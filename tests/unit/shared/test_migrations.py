"""Migrations only add, and each column that is read has its place in the tables."""

import re
from collections.abc import Iterable

import pytest

from shared.cassandra.column_groups import GROUPS
from shared.cassandra.cql import COLUMNS
from shared.cassandra.schema import migration_files, statements
from shared.read_model.tables import IMAGE_TABLES

STATEMENT = re.compile(
    r"(CREATE (?P<kind>TYPE|TABLE) IF NOT EXISTS (?P<name>\w+)\s*\((?P<fields>.*)\)(\s*WITH .*)?"
    r"|ALTER (TYPE|TABLE) (?P<altered>\w+) ADD IF NOT EXISTS \(?(?P<added>[^()]*)\)?)",
    re.DOTALL,
)


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


SCHEMA = schema_of(path.read_text() for path in migration_files())


@pytest.mark.parametrize("table", IMAGE_TABLES)
def test_each_table_has_every_column_of_an_image(table: str) -> None:
    assert set(re.sub(r"toJson\((\w+)\) AS \1", r"\1", COLUMNS).split(", ")) <= SCHEMA[table].keys()
    assert {SCHEMA[table][f"{name}_json"] for name in GROUPS} == {"text"}


@pytest.mark.parametrize(
    "statement", ["DROP TABLE images", "ALTER TABLE images DROP outcome", "CREATE TABLE images (image_id uuid)"]
)
def test_migration_that_does_not_only_add_is_refused(statement: str) -> None:
    with pytest.raises(AssertionError, match="may only add"):
        schema_of([statement])
