"""The page on the real stack: an upload and a failure through all services, and an outage of Kafka in the middle."""

import re
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest
from playwright.sync_api import Browser, expect

from tests.browser.conftest import Tabs, chromium
from tests.browser.test_upload import JPEG, choose, file, row
from tests.support.api import Api
from tests.support.engines.stack import Stack
from tests.support.images import broken_png
from tests.support.processes.gateway import own_gateway
from tests.support.processes.halt import stopped

SLOW = 60_000
WAITING = "Kafka is unavailable. Your files wait here and are sent when it is back."


@pytest.fixture
def browser() -> Iterator[Browser]:
    with chromium() as launched:
        yield launched


@pytest.mark.slow
def test_uploads_of_the_page_are_rendered_fail_with_a_reason_and_wait_for_kafka_in_words(
    stack: Stack, browser: Browser, owner: dict[str, str], tmp_path: Path
) -> None:
    # The gateway of the stack waits 15 seconds for an ack before it reports that Kafka is unavailable.
    with own_gateway(stack.settings, tmp_path / "log", kafka_send_timeout=timedelta(seconds=1)) as gateway:
        gateway.wait_connected()
        context = browser.new_context(locale="en-GB")
        tabs = Tabs(context, gateway.base_url)
        page = tabs.open(f"?owner=user:{owner['user_id']}")
        choose(page, file("dune.jpg"), file("scan.png", broken_png(), "image/png"), button="Choose photos")
        expect(row(page, "dune.jpg").locator(".text")).to_have_text(re.compile("^Ready"), timeout=SLOW)
        expect(row(page, "scan.png").locator(".text")).to_have_text("The picture cannot be decoded.", timeout=SLOW)
        expect(page.locator(".tile.ready")).to_have_count(1)
        expect(page.locator(".tile.failed")).to_have_count(1)
        if stack.runs("kafka"):
            with stopped(stack.pid("kafka")):
                choose(page, *(file(f"{number}.jpg", JPEG + bytes(number)) for number in range(3)))
                expect(page.get_by_text(WAITING)).not_to_have_count(0, timeout=SLOW)
                expect(page.locator(".system")).to_have_text("Kafka unavailable", timeout=SLOW)
            expect(page.locator(".tile.ready")).to_have_count(4, timeout=SLOW)
            expect(page.get_by_text(WAITING)).to_have_count(0)
            expect(page.locator(".system")).to_have_text("all systems ready", timeout=SLOW)
            with Api(stack.base_url) as api:
                assert len(api.ids_of(**owner)) == 5
        assert tabs.errors == []
        context.close()
