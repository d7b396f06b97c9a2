"""Pytest plugin: in CI, a skipped test that docs/requirements.md names is a failed one."""

import os
from collections.abc import Generator

import pytest

from tests.support.requirements import is_required


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Turn the skip of a named test into a failure where the variable CI is `true`."""
    report = yield
    if report.skipped and os.environ.get("CI") == "true" and is_required(item.nodeid):
        reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else report.longrepr
        report.outcome = "failed"
        report.longrepr = f"docs/requirements.md names this test, so CI may not skip it. {reason}"
    return report
