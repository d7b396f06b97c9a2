"""Convergence on the real Cassandra: thirty logs, each in three orders, and the three tables against each other.

Cassandra breaks ties by the greater bytes, so ties are the same in each order, too. A row that was written once is
there, so each order writes another image: the same log with the image's id exchanged.
"""

import random
from collections.abc import Iterator
from uuid import UUID

import pytest
from cassandra.cluster import Session

from shared.cassandra.index import CassandraIndex
from shared.cassandra.session import connect
from shared.contract.encoding import decode_command, decode_event, encode
from shared.contract.keys import DayShard, day_of, shard_of
from shared.contract.logged_command import versioned
from shared.read_model.tables import Write
from shared.settings import Settings
from tests.convergence.histories import DAY, History, history
from tests.convergence.views import SHARDS, compacted, fold, image_id, shuffled, view, writes_of
from tests.support.isolation import PATIENT, isolated
from tests.support.records import id_at


@pytest.fixture(scope="module")
def session(engines: Settings) -> Iterator[Session]:
    with isolated(engines, keyspace=True, cassandra_timeout=PATIENT) as settings:
        found = connect(settings, settings.cassandra_keyspace)
        yield found
        found.cluster.shutdown()


def renamed(found: History, image: UUID) -> History:
    """The same history of another image."""

    def exchange(data: bytes) -> bytes:
        return data.replace(str(image_id(found)).encode(), str(image).encode())

    return History(
        [versioned(decode_command(exchange(encode(each.command))), each.version) for each in found.commands],
        [decode_event(exchange(encode(event))) for event in found.events],
    )


async def apply(index: CassandraIndex, records: list[list[Write]]) -> None:
    """One record after the other, the writes of one at once: as the indexer does."""
    for writes in records:
        await index.apply(writes)


async def rows_of(index: CassandraIndex, found: History) -> set[str]:
    """The image's row as each of the three tables has it, without the image's id."""
    image = image_id(found)
    by_owner = await index.of_owner(found.events[0].owner)
    by_day = await index.rows(DayShard(day_of(image), shard_of(image, SHARDS)), [image])
    rows = [await index.image(image), next(iter(by_owner), None), next(iter(by_day), None)]
    return {repr(row).replace(str(image), "IMAGE") for row in rows}


async def test_histories_converge(session: Session) -> None:
    index = CassandraIndex(session)
    rng = random.Random(0)
    for seed in range(20):
        found = await history(seed)
        seen: set[str] = set()
        for _ in range(3):
            order = renamed(found, id_at(DAY, rng.getrandbits(62)))
            await apply(index, shuffled(writes_of(order.commands, order.events), rng))
            seen |= await rows_of(index, order)
            # A client gets the document that the index in memory gives.
            expected = await fold(writes_of(order.commands, order.events)).image(image_id(order))
            assert view(await index.image(image_id(order))) == view(expected), seed
        assert len(seen) == 1, seed


async def test_compaction_changes_no_document(session: Session) -> None:
    """Everything; the commands with a compacted events topic; that alone: one document."""
    index = CassandraIndex(session)
    rng = random.Random(1)
    for seed in range(100, 110):
        found = await history(seed)
        for commands_kept, compact in ((True, False), (True, True), (False, True)):
            order = renamed(found, id_at(DAY, rng.getrandbits(62)))
            left = compacted(order.events, len(order.events)) if compact else order.events
            await apply(index, shuffled(writes_of(order.commands if commands_kept else [], left), rng))
            expected = await fold(writes_of(order.commands, order.events)).image(image_id(order))
            assert view(await index.image(image_id(order))) == view(expected), seed
