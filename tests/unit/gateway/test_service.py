"""The gateway tries to connect to Cassandra until it succeeds."""

from gateway.service import connect_index
from shared.cassandra.index import CassandraIndex
from shared.errors import Unavailable
from shared.settings import Settings


class FlakyIndex(CassandraIndex):
    """An index whose `connect` raises each of `errors` once."""

    def __init__(self, errors: list[Exception]) -> None:
        super().__init__()
        self.errors = errors
        self.connected_with: list[Settings] = []

    async def connect(self, settings: Settings, keyspace: str | None = None) -> None:
        if self.errors:
            raise self.errors.pop(0)
        self.connected_with.append(settings)


async def test_gateway_connects_to_cassandra_again_after_an_unexpected_error() -> None:
    settings = Settings(_env_file=None)
    index = FlakyIndex([Unavailable("cassandra", "refused"), RuntimeError("unexpected")])
    await connect_index(index, settings, pause=0)
    assert index.errors == []
    assert index.connected_with == [settings]
    await index.close()
