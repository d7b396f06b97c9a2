"""What tests of the running stack share: a client, and an owner of a test's own."""

import secrets
from collections.abc import Iterator

import pytest

from tests.support.api import Api
from tests.support.engines.stack import Stack


@pytest.fixture(scope="module")
def api(stack: Stack) -> Iterator[Api]:
    with Api(stack.base_url) as client:
        yield client


@pytest.fixture
def owner() -> dict[str, str]:
    return {"user_id": secrets.token_hex(8)}
