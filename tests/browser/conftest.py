"""A real Chromium for the tests of the page, and a pipeline in memory behind a real port. They need no engine."""

import logging
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import structlog
from playwright.sync_api import Browser, BrowserContext, ConsoleMessage, Page, ViewportSize, expect, sync_playwright

from gateway.http.problems import RETRY_AFTER
from tests.support.memory.live import LivePipeline, live_pipeline

CHROMIUM = "chromium"
SECONDS = 20
VIEWPORT = ViewportSize(width=1280, height=800)


@pytest.fixture(scope="package")
def browser() -> Iterator[Browser]:
    """The browser of all tests in this folder.

    While Playwright is open its event loop runs in the thread of the tests, where no asynchronous test can run then.
    This folder has none.
    """
    with chromium() as launched:
        yield launched


@contextmanager
def chromium() -> Iterator[Browser]:
    """Debian's Chromium: Playwright's own is not a package of a registry."""
    path = shutil.which(CHROMIUM)
    if path is None:
        pytest.skip("there is no Chromium on this machine: apt-get install chromium")
    with sync_playwright() as playwright:
        # Containers often run as root, where Chromium's sandbox cannot start.
        launched = playwright.chromium.launch(executable_path=path, args=["--no-sandbox"])
        expect.set_options(timeout=SECONDS * 1000)
        yield launched
        launched.close()


@pytest.fixture
def pipeline(monkeypatch: pytest.MonkeyPatch) -> Iterator[LivePipeline]:
    # Each outage of a test would cost it the five seconds after which a client should ask again.
    monkeypatch.setitem(RETRY_AFTER, "Retry-After", "1")
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.WARNING))
    with live_pipeline() as found:
        yield found
    structlog.reset_defaults()


class Tabs:
    """Tabs of one browser profile. Each message of a console and each error is kept."""

    def __init__(self, context: BrowserContext, base_url: str) -> None:
        self.context = context
        self._base_url = base_url
        self.errors: list[str] = []
        context.on("console", self._heard)
        context.on("weberror", lambda error: self.errors.append(str(error.error)))

    def _heard(self, message: ConsoleMessage) -> None:
        # A failed request is an error in the console too; those that a test causes are no fault of the page.
        if message.type == "error" and "Failed to load resource" not in message.text:
            self.errors.append(message.text)

    def open(self, address: str = "?owner=user:1", **state: Any) -> Page:
        """A tab with the page, once its list is loaded."""
        page = self.context.new_page()
        page.goto(f"{self._base_url}/{address}")
        expect(page.locator(".count")).not_to_be_empty()
        return page


@pytest.fixture
def tabs(browser: Browser, pipeline: LivePipeline) -> Iterator[Tabs]:
    context = browser.new_context(viewport=VIEWPORT, locale="en-GB", permissions=["clipboard-read", "clipboard-write"])
    made = Tabs(context, pipeline.base_url)
    yield made
    cookies = context.cookies()
    context.close()
    assert made.errors == []
    assert cookies == []
