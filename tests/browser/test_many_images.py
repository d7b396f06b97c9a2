"""Thousands of images: all are reached, few have elements, nothing jumps. `make bench-page` measures frames."""

from playwright.sync_api import expect

from tests.browser.conftest import Tabs
from tests.browser.test_gallery_and_viewer import uploaded
from tests.support.memory.live import LivePipeline
from tests.support.memory.many_images import multiply

IMAGES = 3_000
MOST_TILES = 150
"""A screen of 1280 by 800 pixels shows some 30, and as much again above and below."""

SHIFTS = """
window.shift = 0;
const add = entry => { if (!entry.hadRecentInput) shift += entry.value; };
new PerformanceObserver(list => list.getEntries().forEach(add))
  .observe({ type: 'layout-shift', buffered: true });
"""
TO_THE_END = """async () => {
  let most = 0;
  while (document.querySelector('.count').textContent.includes('+')) {
    scrollTo({ top: document.body.scrollHeight, behavior: 'instant' });
    await new Promise(resolve => setTimeout(resolve, 40));
    most = Math.max(most, document.querySelectorAll('.tile').length);
  }
  scrollTo({ top: document.body.scrollHeight, behavior: 'instant' });
  return most;
}"""


def test_thousands_of_images_are_scrolled_with_few_elements_and_no_shift(tabs: Tabs, pipeline: LivePipeline) -> None:
    multiply(pipeline, uploaded(pipeline, 3), IMAGES)
    tabs.context.add_init_script(SHIFTS)
    page = tabs.open()
    expect(page.locator(".count")).to_have_text("100+ images")
    most = page.evaluate(TO_THE_END)
    expect(page.locator(".count")).to_have_text("3,000 images")
    assert 0 < most < MOST_TILES
    assert page.evaluate("shift") < 0.01
    last = page.locator(".tile a").last
    opened = last.get_attribute("href")
    last.click()
    expect(page.get_by_role("row")).to_have_count(6)
    page.go_back()
    expect(page.locator(f".tile a[href='{opened}']")).to_be_focused()
