"""Directories and recorded states of local stacks that are not running."""

from pathlib import Path

import pytest

from deploy.local import services
from deploy.local.engines import cassandra, kafka, s3
from deploy.local.state import Root, State


@pytest.fixture
def root(tmp_path: Path) -> Root:
    made = Root(tmp_path / "stack")
    made.create()
    return made


@pytest.fixture
def ports() -> dict[str, int]:
    """A port for each name that a part listens on: 20000 and the following."""
    names = [*kafka.PORTS, *cassandra.PORTS, *s3.PORTS, *services.PORTS, "gateway"]
    return {name: 20_000 + index for index, name in enumerate(names)}


@pytest.fixture
def state(ports: dict[str, int]) -> State:
    """A stack with one of each part."""
    return State(ports=ports)


@pytest.fixture
def cluster(ports: dict[str, int]) -> State:
    """A stack with three brokers and three nodes."""
    return State(cluster=True, ports=ports)
