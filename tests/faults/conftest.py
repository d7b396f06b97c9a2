"""The stack of fault runs: with proxies between services and engines, and gateways whose clocks can be set."""

import os
from collections.abc import Iterator

import pytest

from tests.support.engines.proxied import IS_POSSIBLE, ProxiedStack, proxied_stack


@pytest.fixture(scope="package")
def running(request: pytest.FixtureRequest) -> Iterator[ProxiedStack]:
    """As the other tests' fixture of this name, but the stack ends with the fault runs."""
    if not IS_POSSIBLE:
        pytest.skip("fault runs need Linux on x86-64: its loopback addresses, and a library that fakes the time")
    capture = request.config.pluginmanager.getplugin("capturemanager")
    context = proxied_stack(request.config.getoption("--cluster"), os.environ)
    with capture.global_and_fixture_disabled():
        print()
        started = context.__enter__()
    try:
        yield started
    finally:
        context.__exit__(None, None, None)


@pytest.fixture(scope="package")
def stack(running: ProxiedStack) -> ProxiedStack:
    """Engines and services of the fault run."""
    return running
