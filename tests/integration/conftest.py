"""What tests of the running stack share: a client, an owner of a test's own, and a deployment without services."""

import secrets
from collections.abc import AsyncIterator, Iterator

import pytest

from shared.settings import Settings
from tests.support.api import Api
from tests.support.engines.stack import Stack
from tests.support.isolation import isolated_deployment
from tests.support.synthetic import Deployment, deployment


@pytest.fixture(scope="module")
def api(stack: Stack) -> Iterator[Api]:
    with Api(stack.base_url) as client:
        yield client


@pytest.fixture
def owner() -> dict[str, str]:
    return {"user_id": secrets.token_hex(8)}


@pytest.fixture
def place(engines: Settings) -> Iterator[Settings]:
    with isolated_deployment(engines, topic_partitions=2) as settings:
        yield settings


@pytest.fixture
async def world(place: Settings) -> AsyncIterator[Deployment]:
    """A deployment of the module's or the test's own, in which the test itself does what the services would."""
    async with deployment(place) as made:
        yield made
