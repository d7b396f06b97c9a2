"""Figures of the page on a gallery of 10,000 images, in Chromium: `make bench-page`.

First paint, layout shift, the delay of interactions, and the times of frames while the whole list is scrolled.
"""

import logging
import shutil
import statistics
import sys
import time
from io import BytesIO
from typing import Annotated, Any

import httpx
import structlog
import typer
from playwright.sync_api import CDPSession, Page, sync_playwright

from gateway.web.files import static_files
from tests.support.images import photo
from tests.support.memory.live import LivePipeline, live_pipeline
from tests.support.memory.many_images import multiply

SHAPES = ((1600, 1067), (1200, 1500), (1600, 900), (1500, 1500))
SECONDS = 60
STEP = 240
"""Pixels that each frame scrolls: 14,400 pixels in a second at 60 frames, faster than people scroll."""

OBSERVE = """
window.figures = { shift: 0, delay: 0, paint: {} };
const observe = (type, use, options = {}) => new PerformanceObserver(list => list.getEntries().forEach(use))
  .observe({ type, buffered: true, ...options });
observe('layout-shift', entry => { if (!entry.hadRecentInput) figures.shift += entry.value; });
observe('event', entry => { figures.delay = Math.max(figures.delay, entry.duration); }, { durationThreshold: 16 });
observe('paint', entry => { figures.paint[entry.name] = entry.startTime; });
observe('largest-contentful-paint', entry => { figures.paint.largest = entry.startTime; });
"""
SCROLL = """step => new Promise(resolve => {
  const times = [];
  let last = performance.now(), still = 0, most = 0;
  const frame = now => {
    times.push(now - last);
    last = now;
    most = Math.max(most, document.querySelectorAll('.tile').length);
    const before = scrollY;
    scrollBy({ top: step, behavior: 'instant' });
    still = scrollY === before ? still + 1 : 0;
    if (still > 180) resolve({ times: times.slice(1, -180), most, height: document.body.scrollHeight });
    else requestAnimationFrame(frame);
  };
  requestAnimationFrame(frame);
})"""


def fill(pipeline: LivePipeline, count: int) -> None:
    """Render a few pictures, and make many images of them."""
    ids = []
    for width, height in SHAPES:
        data = BytesIO()
        photo(width, height).save(data, "JPEG", quality=85)
        answer = httpx.post(
            f"{pipeline.base_url}/images?user_id=1",
            files={"image": ("photo.jpg", data.getvalue())},
            headers={"Prefer": "wait=30"},
            timeout=SECONDS,
            trust_env=False,
        )
        ids.append(answer.raise_for_status().json()["image_id"])
    multiply(pipeline, ids, count)


def interact(page: Page) -> None:
    """Open an image, go to the next ones, change the variant, close, select, and switch the colours."""
    page.locator(".tile a").nth(3).click()
    page.get_by_role("row").nth(4).wait_for()
    for _ in range(3):
        page.keyboard.press("ArrowRight")
        page.wait_for_timeout(200)
    page.get_by_role("button", name="small").click()
    page.keyboard.press("Escape")
    page.wait_for_timeout(300)
    page.keyboard.press("ArrowDown")
    page.keyboard.press("Space")
    page.get_by_role("button", name="Switch between light and dark").click()
    page.wait_for_timeout(300)


def cpu_seconds(session: CDPSession) -> list[float]:
    """Processor time of all tasks, of scripts, and of styles and layout."""
    values = {each["name"]: each["value"] for each in session.send("Performance.getMetrics")["metrics"]}
    layout = values["LayoutDuration"] + values["RecalcStyleDuration"]
    return [values["TaskDuration"], values["ScriptDuration"], layout]


def measured(base_url: str, path: str) -> dict[str, Any]:
    """The figures of one visit."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=["--no-sandbox"])
        context = browser.new_context(viewport={"width": 1280, "height": 800}, locale="en-GB")
        context.add_init_script(OBSERVE)
        page = context.new_page()
        page.goto(f"{base_url}/?owner=user:1")
        page.locator(".tile img").first.wait_for()
        interact(page)
        session = context.new_cdp_session(page)
        # The processor time of the page's main thread: on a loaded machine the time of a frame is that of others.
        session.send("Performance.enable", {"timeDomain": "threadTicks"})
        before = cpu_seconds(session)
        started = time.monotonic()
        scrolled = page.evaluate(SCROLL, STEP)
        found: dict[str, Any] = page.evaluate("figures")
        found["cpu"] = [after - first for first, after in zip(before, cpu_seconds(session), strict=True)]
        found |= scrolled | {"seconds": time.monotonic() - started, "count": page.locator(".count").inner_text()}
        browser.close()
    return found


def main(images: Annotated[int, typer.Option(min=100, help="Images in the gallery.")] = 10_000) -> None:
    """Measure and print."""
    path = shutil.which("chromium")
    if path is None:
        sys.exit("✗ There is no Chromium on this machine: apt-get install chromium")
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.WARNING))
    with live_pipeline() as pipeline:
        fill(pipeline, images)
        found = measured(pipeline.base_url, path)
    files = static_files()
    total = len(files.index.content) + sum(len(each.content) for each in files.assets.values())
    other_language = len(files.assets["words_de.js"].content)
    times = sorted(found["times"])
    frame = f"{statistics.median(times):.1f} ms, {times[len(times) * 95 // 100]:.1f} ms, {times[-1]:.0f} ms"
    cpu = ", ".join(f"{each / len(times) * 1000:.1f} ms" for each in found["cpu"])
    for name, value in (
        ("bytes of all files; of a visit in English", f"{total:,}; {total - other_language:,}"),
        ("files", f"{len(files.assets) + 1}"),
        ("first contentful paint", f"{found['paint']['first-contentful-paint']:.0f} ms"),
        ("largest contentful paint", f"{found['paint']['largest']:.0f} ms"),
        ("longest interaction (event to next paint)", f"{found['delay']:.0f} ms"),
        ("cumulative layout shift", f"{found['shift']:.3f}"),
        (f"scrolled through {found['count']}", f"{found['height']:,} px in {found['seconds']:.0f} s"),
        ("frame: median, 95th percentile, longest", frame),
        ("processor time of a frame: all, script, style and layout", cpu),
        ("tiles in the document at most", f"{found['most']}"),
    ):
        print(f"| {name} | {value} |")


if __name__ == "__main__":
    typer.run(main)
