"""What a keyspace that answers, and one that does not, is taken for when a service starts."""

from collections import namedtuple
from typing import Any, cast

import pytest
from cassandra import InvalidRequest, OperationTimedOut
from cassandra.cluster import NoHostAvailable, ResultSet, Session

from shared.deployment import check_deployment
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
    """A session that answers every statement so."""

    def __init__(self, answer: Rows | Exception) -> None:
        self._answer = answer

    def execute(self, *_statement: Any) -> ResultSet:
        if isinstance(self._answer, Exception):
            raise self._answer
        return cast(ResultSet, self._answer)


def check(answer: Rows | Exception) -> None:
    check_deployment(cast(Session, Answering(answer)), SETTINGS)


def test_the_same_shards_are_fine() -> None:
    check(Rows(str(SETTINGS.day_shards)))


@pytest.mark.parametrize("rows", [Rows(), Rows(str(SETTINGS.day_shards + 1))], ids=["none", "other"])
def test_other_shards_are_a_mistake(rows: Rows) -> None:
    with pytest.raises(ConfigurationError, match="It is fixed for ever"):
        check(rows)


def test_no_tables_are_a_mistake() -> None:
    with pytest.raises(ConfigurationError, match="apply the schema"):
        check(InvalidRequest("unconfigured table deployment"))


@pytest.mark.parametrize("error", [OperationTimedOut(), NoHostAvailable("none", {})], ids=["slow", "away"])
def test_no_answer_is_an_outage(error: Exception) -> None:
    with pytest.raises(Unavailable):
        check(error)
