"""Pictures of the page for README and docs: `make page-pictures` (needs Chromium).

A real browser shows a pipeline in memory with drawn landscapes, at desktop and phone width, light and dark.
"""

import argparse
import logging
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path
from typing import Any

import httpx
import structlog
from PIL import Image
from playwright.sync_api import Browser, Page, ViewportSize, expect, sync_playwright

from docs.generate.pictures import PICTURES
from docs.generate.scenes import jpeg
from tests.support.images import broken_png
from tests.support.memory.live import LivePipeline, live_pipeline

DESKTOP = ViewportSize(width=1280, height=800)
PHONE = ViewportSize(width=390, height=800)
IMAGES = 22
NAMES = ("Dune", "Fjord", "Meadow", "Dusk", "Blossom", "Glacier", "Ember", "Midnight", "Canyon", "Harbour", "Valley")
SECONDS = 60
UPLOAD_RATE = 12_000
"""Bytes per second: slow enough to take a picture of an upload on its way."""


def file(number: int) -> dict[str, Any]:
    """A landscape as a file that a person chooses."""
    name = f"{NAMES[number % len(NAMES)]} {number // len(NAMES) + 1}.jpg"
    return {"name": name, "mimeType": "image/jpeg", "buffer": jpeg(number)}


def fill(pipeline: LivePipeline) -> None:
    """Upload the landscapes, and wait until all are ready."""
    with httpx.Client(base_url=pipeline.base_url, timeout=SECONDS, trust_env=False) as client:
        for number in range(IMAGES):
            form = {"image": (file(number)["name"], file(number)["buffer"], "image/jpeg")}
            headers = {"Prefer": "wait=30"}
            client.post("/images", params={"user_id": "1"}, files=form, headers=headers).raise_for_status()


@contextmanager
def tab(browser: Browser, address: str, size: ViewportSize, scheme: Any) -> Iterator[Page]:
    """The page in a tab of its own profile, once its list is there."""
    is_phone = size is PHONE
    context = browser.new_context(
        viewport=size,
        color_scheme=scheme,
        locale="en-GB",
        device_scale_factor=1.5,
        has_touch=is_phone,
        is_mobile=is_phone,
        # Playwright waits for a condition by evaluating it, which the page's policy forbids.
        bypass_csp=True,
    )
    page = context.new_page()
    page.goto(address)
    expect(page.locator(".count")).not_to_be_empty()
    yield page
    context.close()


def settle(page: Page) -> None:
    """Wait until every picture on the screen is drawn."""
    page.wait_for_function("[...document.images].every(image => image.complete || image.hidden)")
    page.wait_for_timeout(700)


def save(page: Page, name: str, output: Path) -> None:
    """Write the screen as WebP, because a PNG of photos has megabytes."""
    picture: Image.Image = Image.open(BytesIO(page.screenshot()))
    picture.convert("RGB").save(output / f"page-{name}.webp", quality=82, method=6)


def choose(page: Page, *files: dict[str, Any]) -> None:
    """Choose files with the button of the header."""
    with page.expect_file_chooser() as chooser:
        page.get_by_role("button", name="Upload", exact=True).click()
    chooser.value.set_files(list(files))  # type: ignore[arg-type]


def fill_queue(page: Page, pipeline: LivePipeline, number: int) -> None:
    """One file each that is ready, has failed, is too large, is being processed, and is on its way."""
    choose(page, file(number), {"name": "scan_0042.png", "mimeType": "image/png", "buffer": broken_png()})
    expect(page.locator(".row.ready")).to_have_count(1)
    expect(page.locator(".row.failed")).to_have_count(1)
    pipeline.hold()
    large = {**file(number + 3), "name": "Panorama from the summit, 60 megapixels.jpg"}
    large["buffer"] += bytes(7 * 1024 * 1024)
    choose(page, large, file(number + 1))
    expect(page.locator(".row.processing")).to_have_count(1)
    session = page.context.new_cdp_session(page)
    session.send("Network.enable")
    slow = {"offline": False, "latency": 0, "downloadThroughput": -1, "uploadThroughput": UPLOAD_RATE}
    session.send("Network.emulateNetworkConditions", slow)
    choose(page, file(number + 2))
    page.wait_for_function("parseInt(document.querySelector('.row.sending .percent')?.textContent) >= 40")


def take(browser: Browser, pipeline: LivePipeline, output: Path) -> None:
    """All pictures."""
    listed = f"{pipeline.base_url}/?owner=user:1"
    images = httpx.get(f"{pipeline.base_url}/images?user_id=1", trust_env=False).json()
    viewed = f"{listed}&image={images[6]['image_id']}"
    for scheme in ("light", "dark"):
        for size, width in ((DESKTOP, "desktop"), (PHONE, "phone")):
            with tab(browser, listed, size, scheme) as page:
                settle(page)
                save(page, f"gallery-{width}-{scheme}", output)
            with tab(browser, viewed, size, scheme) as page:
                expect(page.get_by_role("row")).to_have_count(6)
                settle(page)
                save(page, f"viewer-{width}-{scheme}", output)
    for size, width, scheme, number in ((DESKTOP, "desktop", "light", 30), (PHONE, "phone", "dark", 40)):
        with tab(browser, listed, size, scheme) as page:
            fill_queue(page, pipeline, number)
            save(page, f"queue-{width}-{scheme}", output)
        pipeline.release()
    with tab(browser, f"{pipeline.base_url}/?owner=product:7", DESKTOP, "light") as page:
        save(page, "empty-desktop-light", output)
    with tab(browser, listed, DESKTOP, "dark") as page:
        pipeline.set_kafka(False)
        choose(page, file(50), file(51))
        expect(page.locator(".system.bad")).to_be_visible()
        page.locator(".system").click()
        save(page, "outage-desktop-dark", output)
        pipeline.set_kafka(True)


def main() -> None:
    """Make them."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, default=PICTURES)
    arguments = parser.parse_args()
    path = shutil.which("chromium")
    if path is None:
        sys.exit("✗ There is no Chromium on this machine: apt-get install chromium fonts-inter")
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.WARNING))
    expect.set_options(timeout=SECONDS * 1000)
    with live_pipeline() as pipeline, sync_playwright() as playwright:
        fill(pipeline)
        browser = playwright.chromium.launch(executable_path=path, args=["--no-sandbox"])
        take(browser, pipeline, arguments.output)
        browser.close()


if __name__ == "__main__":
    main()
