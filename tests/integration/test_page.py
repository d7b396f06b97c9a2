"""The page on the real stack: an upload and a failure through all services, and Kafka that stops and comes back."""

import re

import pytest
from playwright.sync_api import Browser, expect

from tests.browser.conftest import Tabs, browser
from tests.browser.test_upload import JPEG, choose, file, row
from tests.support.api import Api
from tests.support.engines.stack import Stack
from tests.support.images import broken_png

__all__ = ["browser"]
SLOW = 60_000


@pytest.mark.slow
def test_uploads_of_the_page_are_rendered_fail_with_a_reason_and_survive_an_outage_of_kafka(
    stack: Stack, browser: Browser, owner: dict[str, str]
) -> None:
    context = browser.new_context(locale="en-GB")
    tabs = Tabs(context, stack.base_url)
    page = tabs.open(f"?owner=user:{owner['user_id']}")
    choose(page, file("dune.jpg"), file("scan.png", broken_png(), "image/png"), button="Choose photos")
    expect(row(page, "dune.jpg").locator(".text")).to_have_text(re.compile("^Ready"), timeout=SLOW)
    expect(row(page, "scan.png").locator(".text")).to_have_text("The picture cannot be decoded.", timeout=SLOW)
    expect(page.locator(".tile.ready")).to_have_count(1)
    expect(page.locator(".tile.failed")).to_have_count(1)
    if stack.runs("kafka"):
        pid = stack.kill("kafka")
        choose(page, *(file(f"{number}.jpg", JPEG + bytes(number)) for number in range(3)))
        stack.wait_restarted("kafka", pid)
        expect(page.locator(".tile.ready")).to_have_count(4, timeout=SLOW)
        with Api(stack.base_url) as api:
            assert len(api.ids_of(**owner)) == 5
    assert tabs.errors == []
    context.close()
