"""A Cassandra node that hangs keeps its connections open, so its clients must retry on another node."""

import time
from collections.abc import AsyncIterator

import pytest

from shared.cassandra.index import CassandraIndex
from shared.cassandra.session import HANGS_AFTER, NODES_ASKED
from shared.contract.keys import new_id
from shared.read_model.tables import IMAGES
from tests.support.engines.replicas import wait_whole
from tests.support.engines.stack import Stack
from tests.support.processes.halt import stopped

HANGS = "cassandra-2"
STATEMENTS = 6
"""The driver uses the nodes in turn, so at least one statement is sent to the hanging node first."""


@pytest.fixture
async def index(stack: Stack) -> AsyncIterator[CassandraIndex]:
    wait_whole(stack.settings)
    found = await CassandraIndex.open(stack.settings)
    yield found
    await found.close()


async def test_statement_is_prepared_by_another_node(stack: Stack, index: CassandraIndex) -> None:
    # Preparation and execution may each try all other nodes before the last one.
    longest = 2 * (NODES_ASKED - 1) * HANGS_AFTER * stack.settings.cassandra_timeout.total_seconds() + 1
    seconds = []
    with stopped(stack.pid(HANGS)):
        for number in range(STATEMENTS):
            began = time.monotonic()
            await index.execute(f"SELECT image_id AS id_{number} FROM {IMAGES} WHERE image_id = ?", [new_id()])
            seconds.append(time.monotonic() - began)
    assert max(seconds) < longest, seconds


async def test_service_that_starts_beside_a_hanging_node_connects(stack: Stack) -> None:
    wait_whole(stack.settings)
    with stopped(stack.pid(HANGS)):
        index = await CassandraIndex.open(stack.settings)
        await index.check()
        await index.close()
