"""axe finds no violation in any view, light and dark, and the page respects reduced motion."""

from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, Page, expect

from tests.browser.conftest import Tabs
from tests.browser.test_gallery_and_viewer import USER, uploaded
from tests.browser.test_upload import FORGET_FILES, JPEG, choose, file, row
from tests.support.api import Api
from tests.support.images import broken_png
from tests.support.memory.live import LivePipeline

AXE = Path(__file__).parents[1] / "support" / "node" / "node_modules" / "axe-core" / "axe.min.js"
RULES = {
    "runOnly": ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"],
    "resultTypes": ["violations"],
}


@pytest.fixture(scope="module")
def axe() -> str:
    if not AXE.exists():
        pytest.skip("axe is not installed: `npm ci --prefix tests/support/node`")
    return AXE.read_text()


def violations(page: Page, axe: str) -> list[str]:
    """Each violation with the elements that have it; contrasts in light and in dark."""
    page.evaluate(axe)
    found: list[dict[str, Any]] = page.evaluate("rules => axe.run(rules)", RULES)["violations"]
    is_dark = page.evaluate("matchMedia('(prefers-color-scheme: dark)').matches")
    page.emulate_media(color_scheme="light" if is_dark else "dark")
    found += page.evaluate("axe.run({ runOnly: { type: 'rule', values: ['color-contrast'] } })")["violations"]
    page.emulate_media(color_scheme="dark" if is_dark else "light")
    return [f"{each['id']}: {node['html'][:200]} {node['failureSummary']}" for each in found for node in each["nodes"]]


@pytest.mark.parametrize(("scheme", "width"), [("light", 1280), ("dark", 390)])
def test_axe_finds_nothing(browser: Browser, pipeline: LivePipeline, axe: str, scheme: Any, width: int) -> None:
    context = browser.new_context(
        viewport={"width": width, "height": 800},
        color_scheme=scheme,
        locale="en-GB",
        reduced_motion="reduce",
        bypass_csp=True,
    )
    tabs = Tabs(context, pipeline.base_url)
    page = tabs.open("?owner=user:2")
    found = {"empty": violations(page, axe)}
    [image_id, *_] = uploaded(pipeline, 3)
    with Api(pipeline.base_url) as api:
        api.settled(
            api.upload(broken_png(), "a very long name of a scan from the attic, part 2 of 7.png", **USER)["image_id"]
        )
    page = tabs.open()
    expect(page.locator(".tile")).to_have_count(4)
    found["gallery"] = violations(page, axe)
    pipeline.hold()
    choose(page, file("text.png", b"text"), file("large.jpg", JPEG + bytes(6_000_000)), file("slow.jpg"))
    expect(page.locator(".row.processing")).to_have_count(1)
    page.get_by_label("Select 2.jpg").check()
    found["queue and selection"] = violations(page, axe)
    page.get_by_role("button", name="Clear selection").click()
    page.locator(".system").click()
    found["state"] = violations(page, axe)
    page = tabs.open(f"?owner=user:1&image={image_id}")
    expect(page.get_by_role("row")).to_have_count(6)
    found["viewer"] = violations(page, axe)
    page.get_by_role("button", name="Delete").click()
    expect(page.locator(".toast")).to_be_visible()
    found["undo"] = violations(page, axe)
    pipeline.set_kafka(False)
    page = tabs.open("?owner=user:3")
    choose(page, file("kept.jpg"))
    expect(row(page, "kept.jpg").locator(".text")).to_contain_text("Kafka is unavailable.")
    page.locator(".system").click()
    expect(page.locator(".popover")).to_contain_text("Add files as usual")
    found["outage"] = violations(page, axe)
    page.evaluate(FORGET_FILES)
    page.reload()
    expect(row(page, "kept.jpg").locator(".text")).to_contain_text("the browser no longer holds this file")
    found["lost file"] = violations(page, axe)
    pipeline.set_kafka(True)
    context.close()
    assert found == {view: [] for view in found}


def test_reduced_motion_ends_every_transition(browser: Browser, pipeline: LivePipeline) -> None:
    for motion, seconds in (("no-preference", "0.15s"), ("reduce", "0s")):
        context = browser.new_context(locale="en-GB", reduced_motion=motion)  # type: ignore[arg-type]
        page = Tabs(context, pipeline.base_url).open(f"?owner=user:{motion}")
        choose(page, file("new.jpg"))
        expect(page.locator(".tile.ready img")).to_have_css("transition-duration", seconds)
        context.close()
