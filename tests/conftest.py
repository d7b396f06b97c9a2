"""Fixtures that start real engines on demand, once per worker of a run. Unit tests need none of them."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from shared.settings import Settings
from tests.support.engines.stack import Stack, fetch_engines, running_stack
from tests.support.isolation import isolated
from tests.support.otlp_collector import Collector, running_collector

pytest_plugins = ["tests.support.ci"]

NEEDS_SERVICES = pytest.StashKey[bool]()

CLUSTER_ONLY = Path(__file__).parent / "cluster"

LONGEST = (
    "faults/test_faults.py",
    "integration/test_local_stack.py",
    "races/test_races.py",
    "integration/test_container_images.py",
    "model/test_model.py",
    "integration/test_ops_reindex.py",
    "integration/test_ops_erase.py",
    "integration/test_secure_connections.py",
    "integration/test_processor_faults.py",
    "integration/test_make_up.py",
    "integration/test_ops_replay.py",
    "model/test_owner_races.py",
    "fuzz/test_fuzz.py",
    "browser/test_accessibility.py",
    "integration/test_live_events.py",
    "integration/test_errors.py",
    "integration/test_indexer_faults.py",
    "integration/test_small_beside_large.py",
    "browser/test_upload.py",
)
"""Files whose tests take half a minute or more. They come first, the longest of them at the beginning: the workers of
a run take whole files in this order, and with short files at the end all workers end at almost the same time. The
fault run is the first of all because it has a stack of its own, which then runs before the worker has started its.
"""


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--cluster", action="store_true", help="Run what needs engines on a cluster, and nothing else.")


def pytest_xdist_setupnodes(config: pytest.Config) -> None:
    """Download the engines before the workers start, because the progress that a worker prints is not shown."""
    if not all("unit" in Path(argument).parts for argument in config.args):
        fetch_engines()


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """With --cluster run only the tests that use the run's engines; without it leave out those that need a cluster."""
    cluster = config.getoption("--cluster")

    def applies(item: pytest.Item) -> bool:
        return "running" in getattr(item, "fixturenames", ()) if cluster else CLUSTER_ONLY not in item.path.parents

    config.hook.pytest_deselected(items=[item for item in items if not applies(item)])
    items[:] = sorted((item for item in items if applies(item)), key=_rank)


def _rank(item: pytest.Item) -> int:
    """The place of the item's file among the longest; the other files, in their order, come after them."""
    name = item.path.relative_to(Path(__file__).parent).as_posix()
    return LONGEST.index(name) if name in LONGEST else len(LONGEST)


def pytest_collection_finish(session: pytest.Session) -> None:
    # The stack is started once for the whole run, with the services only if a selected test uses them.
    wanted = any("stack" in getattr(item, "fixturenames", ()) for item in session.items)
    session.config.stash[NEEDS_SERVICES] = wanted


@pytest.fixture(scope="session")
def collector() -> Iterator[Collector]:
    """Collects the traces of the stack's services for requests with a `traceparent`."""
    with running_collector() as found:
        yield found


@pytest.fixture(scope="session")
def running(request: pytest.FixtureRequest, collector: Collector) -> Iterator[Stack]:
    """The stack of this run. Tests use `engines` or `stack`."""
    capture = request.config.pluginmanager.getplugin("capturemanager")
    context = running_stack(
        request.config.stash[NEEDS_SERVICES], request.config.getoption("--cluster"), collector.environment
    )
    # A start takes seconds, and the very first one minutes, so its progress is shown.
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
    """Engines and services: base URL, settings, and methods that kill a part and wait for its restart."""
    return running


@pytest.fixture(scope="module")
def space(engines: Settings) -> Iterator[Settings]:
    """Settings with topics, keyspace and bucket of this test module alone."""
    with isolated(engines, topics=True, keyspace=True, bucket=True) as settings:
        yield settings
