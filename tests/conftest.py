"""Fixtures that start real engines, lazily and once per worker of a run: unit tests need nothing."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from shared.settings import Settings
from tests.support.engines.stack import Stack, fetch_engines, running_stack
from tests.support.isolation import isolated
from tests.support.otlp_collector import Collector, running_collector

NEEDS_SERVICES = pytest.StashKey[bool]()

CLUSTER_ONLY = Path(__file__).parent / "cluster"


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--cluster", action="store_true", help="Run what needs engines on a cluster, and nothing else.")


def pytest_xdist_setupnodes(config: pytest.Config) -> None:
    """Fetch what the engines need before the workers start: what a worker prints while it waits is not seen."""
    if not all("unit" in Path(argument).parts for argument in config.args):
        fetch_engines()


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """On a cluster, tests without engines of the run would only be repeated; other runs have no cluster to test."""
    cluster = config.getoption("--cluster")

    def applies(item: pytest.Item) -> bool:
        return "running" in getattr(item, "fixturenames", ()) if cluster else CLUSTER_ONLY not in item.path.parents

    config.hook.pytest_deselected(items=[item for item in items if not applies(item)])
    items[:] = [item for item in items if applies(item)]


def pytest_collection_finish(session: pytest.Session) -> None:
    # One start for the whole run: with the services only if some selected test wants them.
    wanted = any("stack" in getattr(item, "fixturenames", ()) for item in session.items)
    session.config.stash[NEEDS_SERVICES] = wanted


@pytest.fixture(scope="session")
def collector() -> Iterator[Collector]:
    """Takes the traces of the stack's services whose caller asks for it."""
    with running_collector() as found:
        yield found


@pytest.fixture(scope="session")
def running(request: pytest.FixtureRequest, collector: Collector) -> Iterator[Stack]:
    """What this run started; use `engines` or `stack`."""
    capture = request.config.pluginmanager.getplugin("capturemanager")
    context = running_stack(
        request.config.stash[NEEDS_SERVICES], request.config.getoption("--cluster"), collector.environment
    )
    # A start takes seconds, the very first one minutes: show what it is doing.
    with capture.global_and_fixture_disabled():
        print()
        started = context.__enter__()
    try:
        yield started
    finally:
        context.__exit__(None, None, None)


@pytest.fixture(scope="session")
def engines(running: Stack) -> Settings:
    """Engines with topics, keyspace and bucket, as settings whose S3 keys may create buckets."""
    return running.admin


@pytest.fixture(scope="session")
def stack(running: Stack) -> Stack:
    """Engines and services: base URL, settings, and ways to kill a part and to see it come back."""
    return running


@pytest.fixture(scope="module")
def space(engines: Settings) -> Iterator[Settings]:
    """Settings with topics, keyspace and bucket of this test module alone."""
    with isolated(engines, topics=True, keyspace=True, bucket=True) as settings:
        yield settings
