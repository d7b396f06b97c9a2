"""How a service checks its keyspace at its start, and which keyspaces belong to a deployment."""

from collections import namedtuple
from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any, cast

import pytest
from cassandra import InvalidRequest, OperationTimedOut
from cassandra.cluster import NoHostAvailable, ResultSet, Session

from shared.cassandra.deployment import TABLES, Keyspaces, check_deployment, keyspaces
from shared.errors import ConfigurationError, Unavailable
from shared.settings import Settings

SETTINGS = Settings(_env_file=None)
Row = namedtuple("Row", "value")


class Rows:
    def __init__(self, *values: str) -> None:
        self._values = values

    def one(self) -> Row | None:
        return Row(self._values[0]) if self._values else None


class Answering:
    """A session that gives this answer to every statement."""

    def __init__(self, answer: Rows | Exception) -> None:
        self._answer = answer

    def execute(self, *_statement: Any) -> ResultSet:
        if isinstance(self._answer, Exception):
            raise self._answer
        return cast(ResultSet, self._answer)


def check(answer: Rows | Exception) -> None:
    check_deployment(cast(Session, Answering(answer)), SETTINGS)


def test_same_number_of_shards_is_accepted() -> None:
    check(Rows(str(SETTINGS.day_shards)))


@pytest.mark.parametrize("rows", [Rows(), Rows(str(SETTINGS.day_shards + 1))], ids=["none", "other"])
def test_other_number_of_shards_is_a_configuration_error(rows: Rows) -> None:
    with pytest.raises(ConfigurationError, match="It cannot be changed"):
        check(rows)


def test_missing_tables_are_a_configuration_error() -> None:
    with pytest.raises(ConfigurationError, match="apply the schema"):
        check(InvalidRequest("unconfigured table deployment"))


@pytest.mark.parametrize("error", [OperationTimedOut(), NoHostAvailable("none", {})], ids=["slow", "away"])
def test_node_without_an_answer_is_an_outage(error: Exception) -> None:
    with pytest.raises(Unavailable):
        check(error)


class Cluster:
    """A session with keyspaces: their tables, and the records in `deployment` of each."""

    def __init__(self, tables: dict[str, set[str]], records: dict[str, dict[str, str]]) -> None:
        self._tables = tables
        self._records = records

    def execute(self, statement: Any, values: Sequence[str] = ()) -> Any:
        text = getattr(statement, "query_string", statement)
        if "system_schema.tables" in text:
            return [SimpleNamespace(keyspace_name=name, table_name=t) for name, ts in self._tables.items() for t in ts]
        records = self._records[text.split("FROM ")[1].split(".")[0]]
        if values:
            return Rows(*([records[values[0]]] if values[0] in records else []))
        return [SimpleNamespace(name=name, value=value) for name, value in records.items()]


def test_only_recorded_keyspaces_belong_to_the_deployment() -> None:
    own = SETTINGS.cassandra_keyspace
    tables = {name: set(TABLES) for name in (own, "live", "built", "begun", "theirs")}
    built = {f"built:{name}": name for name in ("built", "dropped", "begun")}
    cluster = Cluster(
        tables | {"shop": {"images", "schema_migrations"}},
        {
            own: {"day_shards": "4", "live_keyspace": "live"} | built,
            "live": {"day_shards": "4"}, "built": {"day_shards": "8"}, "begun": {},
        },
    )  # fmt: skip
    assert keyspaces(cast(Session, cluster), SETTINGS) == Keyspaces({"built": 8, own: 4, "live": 4}, ["theirs"])
