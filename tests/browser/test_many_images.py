"""10,000 images: all are reached, few have elements, nothing jumps, and a frame of scrolling costs little."""

from playwright.sync_api import CDPSession, expect

from tests.browser.conftest import Tabs
from tests.browser.test_gallery_and_viewer import uploaded
from tests.support.memory.live import LivePipeline
from tests.support.memory.many_images import multiply

IMAGES = 10_000
MOST_TILES = 150
"""A screen of 1280 by 800 pixels shows some 30, and as much again above and below."""
FRAMES = 60
MAX_FRAME_SECONDS = 0.04
"""Time of the processor, not of the clock, so that a loaded machine changes it little. Half of it is usual."""

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


SCROLL_BACK = """async frames => {
  for (let number = 0; number < frames; number++) {
    scrollBy({ top: -240, behavior: 'instant' });
    await new Promise(requestAnimationFrame);
  }
}"""


def main_thread_seconds(session: CDPSession) -> float:
    """Processor time of the page's main thread."""
    metrics = session.send("Performance.getMetrics")["metrics"]
    return next(float(each["value"]) for each in metrics if each["name"] == "TaskDuration")


def test_thousands_of_images_are_scrolled_with_few_elements_and_no_shift(tabs: Tabs, pipeline: LivePipeline) -> None:
    multiply(pipeline, uploaded(pipeline, 3), IMAGES)
    tabs.context.add_init_script(SHIFTS)
    page = tabs.open()
    expect(page.locator(".count")).to_have_text("100+ images")
    most = page.evaluate(TO_THE_END)
    expect(page.locator(".count")).to_have_text("10,000 images")
    assert 0 < most < MOST_TILES
    assert page.evaluate("shift") < 0.01
    session = page.context.new_cdp_session(page)
    session.send("Performance.enable", {"timeDomain": "threadTicks"})
    before = main_thread_seconds(session)
    page.evaluate(SCROLL_BACK, FRAMES)
    assert (main_thread_seconds(session) - before) / FRAMES < MAX_FRAME_SECONDS
    last = page.locator(".tile a").last
    opened = last.get_attribute("href")
    last.click()
    expect(page.get_by_role("row")).to_have_count(6)
    page.go_back()
    expect(page.locator(f".tile a[href='{opened}']")).to_be_focused()
