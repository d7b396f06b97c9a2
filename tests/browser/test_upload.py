"""Uploads in the page: every way to add files, progress, refusals in words, waiting, and the reload in the middle."""

import base64
import json
import re
import time
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, Page, expect

from shared.errors import Unavailable
from tests.browser.conftest import Tabs
from tests.support.images import broken_png, encode, photo
from tests.support.memory.live import LivePipeline
from tests.support.waiting import wait_for

JPEG = encode(photo(320, 200), "JPEG")
PNG = encode(photo(240, 180), "PNG")
File = dict[str, Any]

DATA_TRANSFER = """files => {
  const transfer = new DataTransfer();
  for (const { name, mimeType, data } of files) {
    const bytes = Uint8Array.from(atob(data), character => character.charCodeAt(0));
    transfer.items.add(new File([bytes], name, { type: mimeType }));
  }
  return transfer;
}"""


def file(name: str, data: bytes = JPEG, kind: str = "image/jpeg") -> File:
    return {"name": name, "mimeType": kind, "buffer": data}


def choose(page: Page, *files: File, button: str = "Upload") -> None:
    with page.expect_file_chooser() as chooser:
        page.get_by_role("button", name=button, exact=True).click()
    chooser.value.set_files(list(files))  # type: ignore[arg-type]


def transfer(page: Page, *files: File) -> Any:
    encoded = [{**each, "data": base64.b64encode(each["buffer"]).decode(), "buffer": None} for each in files]
    return page.evaluate_handle(DATA_TRANSFER, encoded)


def row(page: Page, name: str) -> Any:
    return page.locator(".row").filter(has=page.get_by_text(name, exact=True))


def test_a_chosen_file_becomes_an_image_in_the_gallery_without_a_reload(tabs: Tabs, pipeline: LivePipeline) -> None:
    page = tabs.open()
    expect(page.get_by_role("heading", name="Drop a photo. It comes back in four sizes.")).to_be_visible()
    expect(page.locator(".empty")).to_contain_text("JPEG, PNG or WebP, up to 5 MB each.")
    choose(page, file("dune.jpg"), button="Choose photos")
    expect(row(page, "dune.jpg").locator(".text")).to_have_text(re.compile(r"^Ready · .* became .*"))
    expect(page.get_by_role("link", name=re.compile("dune.jpg, ready"))).to_be_visible()
    expect(page.locator(".count")).to_have_text("1 image")
    assert [command.owner.key for command in pipeline.log.commands] == ["user:1"]


def test_files_are_dropped_and_pasted(tabs: Tabs) -> None:
    page = tabs.open()
    dropped = transfer(page, file("one.jpg"), file("two.png", PNG, "image/png"))
    page.dispatch_event("body", "dragenter", {"dataTransfer": dropped})
    expect(page.locator(".drop")).to_have_text(re.compile("^Drop to upload for .user:1.$"))
    page.dispatch_event("body", "drop", {"dataTransfer": dropped})
    expect(page.locator(".drop")).to_be_hidden()
    pasted = transfer(page, file("image.png", PNG, "image/png"))
    page.evaluate(
        "files => dispatchEvent(new ClipboardEvent('paste', { clipboardData: files, bubbles: true }))", pasted
    )
    expect(page.locator(".tile.ready")).to_have_count(3)
    expect(page.get_by_role("link", name=re.compile(r"pasted-\d{4}-.*\.png, ready"))).to_be_visible()
    expect(page.locator(".fold")).to_contain_text("All 3 are ready")
    page.locator(".fold").click()
    expect(page.locator(".fold")).to_have_text("3 of 3")
    expect(page.locator(".rows")).to_be_hidden()
    expect(page.locator(".queue .actions")).to_be_hidden()


def test_what_cannot_become_an_image_is_reported_before_it_is_sent(tabs: Tabs, pipeline: LivePipeline) -> None:
    page = tabs.open()
    choose(
        page,
        file("notes.png", b"Milk, bread, butter\n", "image/png"),
        file("moving.gif", b"GIF89a" + bytes(20), "image/gif"),
        file("nothing.jpg", b""),
        file("\u05d0\u05d1\u05d2.png", b"text", "image/png"),
    )
    # The end of a long name is cut off, which is on the left of one from right to left.
    expect(row(page, "\u05d0\u05d1\u05d2.png").locator(".name")).to_have_css("direction", "rtl")
    expect(row(page, "notes.png").locator(".text")).to_have_text(
        "The name ends with .png, but the content is text. Accepted are JPEG, PNG or WebP."
    )
    expect(row(page, "moving.gif").locator(".text")).to_have_text("This is GIF. Accepted are JPEG, PNG or WebP.")
    expect(row(page, "nothing.jpg").locator(".text")).to_have_text("The file is empty.")
    assert pipeline.log.commands == []


def test_a_file_that_cannot_be_decoded_fails_with_its_reason_and_can_be_replaced(tabs: Tabs) -> None:
    page = tabs.open()
    choose(page, file("scan.png", broken_png(), "image/png"))
    expect(row(page, "scan.png").locator(".text")).to_have_text("The picture cannot be decoded.")
    tile = page.locator(".tile.failed")
    expect(tile).to_contain_text("The picture cannot be decoded.")
    with page.expect_file_chooser() as chooser:
        tile.get_by_role("button", name="Replace").click()
    chooser.value.set_files(file("good.jpg"))  # type: ignore[arg-type]
    expect(page.get_by_role("link", name=re.compile("good.jpg, ready"))).to_be_visible()
    expect(page.locator(".tile.failed")).to_have_count(0)


def test_a_large_photo_is_shrunk_below_the_limit(tabs: Tabs, pipeline: LivePipeline) -> None:
    page = tabs.open()
    limit = pipeline.settings.max_upload_bytes
    page.evaluate(LARGE_PHOTO, 6 * 1024 * 1024)
    expect(row(page, "large.jpg").locator(".text")).to_have_text(
        re.compile(r"^[6-9]\.?\d* MB is above the limit of 5 MB\. It can be shrunk here\.$")
    )
    page.get_by_role("button", name="Shrink large.jpg").click()
    expect(row(page, "large.jpg").locator(".text")).to_have_text(
        re.compile(r"^Ready · shrunk from [\d.]+ MB to [\d.]+ (MB|KB), which became [\d.]+ (MB|KB)$")
    )
    [command] = pipeline.log.commands
    assert 0 < command.original.size <= limit  # type: ignore[union-attr]


LARGE_PHOTO = """async size => {
  const canvas = document.createElement('canvas');
  canvas.width = 600; canvas.height = 450;
  const context = canvas.getContext('2d');
  const noise = context.createImageData(600, 450);
  for (let i = 0; i < noise.data.length; i += 65536) crypto.getRandomValues(noise.data.subarray(i, i + 65536));
  for (let i = 3; i < noise.data.length; i += 4) noise.data[i] = 255;
  context.putImageData(noise, 0, 0);
  const blob = await new Promise(resolve => canvas.toBlob(resolve, 'image/jpeg', 0.98));
  const parts = [blob];
  if (blob.size < size) parts.push(new Uint8Array(size - blob.size));
  const transfer = new DataTransfer();
  transfer.items.add(new File(parts, 'large.jpg', { type: 'image/jpeg' }));
  document.body.dispatchEvent(new DragEvent('drop', { dataTransfer: transfer, bubbles: true, cancelable: true }));
}"""


def test_uploads_wait_while_kafka_is_unavailable(tabs: Tabs, pipeline: LivePipeline) -> None:
    page = tabs.open()
    pipeline.set_kafka(False)
    choose(page, *(file(f"{number}.jpg", JPEG + bytes(number)) for number in range(4)))
    waiting = "Kafka is unavailable. Your files wait here and are sent when it is back."
    expect(page.get_by_text(waiting)).not_to_have_count(0)
    expect(page.locator(".system")).to_contain_text("Kafka unavailable")
    page.locator(".system").click()
    expect(page.locator(".popover")).to_contain_text("Add files as usual")
    pipeline.set_kafka(True)
    expect(page.locator(".tile.ready")).to_have_count(4)
    expect(page.locator(".system")).to_contain_text("all systems ready")
    assert len(pipeline.log.commands) == 4


def test_what_failed_is_sent_again_one_by_one_or_all(tabs: Tabs, pipeline: LivePipeline) -> None:
    page = tabs.open()
    failures = iter(range(3))

    def fail(route: Any) -> None:
        if route.request.method == "POST" and next(failures, None) is not None:
            route.fulfill(status=500, headers={"Content-Type": "application/json"}, body='{"code": "internal"}')
        else:
            route.continue_()

    page.route("**/images*", fail)
    choose(page, file("one.jpg"), file("two.jpg", JPEG + b"2"))
    expect(page.locator(".row.failed")).to_have_count(2)
    expect(row(page, "one.jpg").locator(".text")).to_have_text("The gateway has an error. Its log has the details.")
    page.get_by_role("button", name="Retry one.jpg").click()
    expect(page.get_by_role("button", name="Retry all 2 failed")).to_be_visible()
    wait_for(lambda: next(failures, None) is None, 20, "the third failure")
    expect(page.locator(".row.failed")).to_have_count(2)
    page.get_by_role("button", name="Retry all 2 failed").click()
    expect(page.locator(".fold")).to_contain_text("All 2 are ready")
    assert len(pipeline.log.commands) == 2


def test_a_busy_gateway_is_waited_out_as_it_says(tabs: Tabs, pipeline: LivePipeline) -> None:
    page = tabs.open()
    refusals = iter(range(2))

    def refuse(route: Any) -> None:
        if route.request.method == "POST" and next(refusals, None) is not None:
            body = '{"code": "saturated", "detail": "busy"}'
            route.fulfill(status=429, headers={"Retry-After": "1", "Content-Type": "application/json"}, body=body)
        else:
            route.continue_()

    page.route("**/images*", refuse)
    started = time.monotonic()
    choose(page, file("busy.jpg"))
    expect(row(page, "busy.jpg").locator(".text")).to_have_text("The gateway is busy. The file is sent in a moment.")
    expect(row(page, "busy.jpg").locator(".text")).to_have_text(re.compile("Ready"))
    assert time.monotonic() - started >= 2


HUNDREDS = 500
MOST_AT_ONCE = 3
MOST_SECONDS = 0.07
"""Of one task, in which the page answers nothing. It took 0.03; it took 0.08 when each change updated every row."""
DROP_LATER = """files => setTimeout(() => document.body.dispatchEvent(
  new DragEvent('drop', { dataTransfer: files, bubbles: true, cancelable: true })))"""


def longest_task(trace: bytes) -> float:
    """Processor time in seconds of the page's longest task: the time of the clock is also that of other programs."""
    events = json.loads(trace)["traceEvents"]
    threads = {(each["pid"], each["tid"]) for each in events if each["args"].get("name") == "CrRendererMain"}
    tasks = [each for each in events if each["name"].endswith("RunTask") and (each["pid"], each["tid"]) in threads]
    return float(max(each.get("tdur", 0) for each in tasks)) / 1e6


def test_hundreds_of_dropped_files_do_not_block_the_page(browser: Browser, tabs: Tabs, pipeline: LivePipeline) -> None:
    page = tabs.open()
    files = transfer(page, *(file(f"{number}.jpg", JPEG + bytes(number)) for number in range(HUNDREDS)))
    browser.start_tracing(page=page, categories=["toplevel"])
    page.evaluate(DROP_LATER, files)
    expect(page.locator(".row")).to_have_count(HUNDREDS)
    assert page.locator(".row.sending").count() <= MOST_AT_ONCE
    expect(page.locator(".fold")).to_contain_text(re.compile(r"[1-9]\d* of 500 ready"))
    assert 0 < longest_task(browser.stop_tracing()) < MOST_SECONDS
    names = page.locator(".row .name").all_text_contents()
    assert names == [f"{number}.jpg" for number in range(HUNDREDS)]
    page.get_by_role("button", name="Cancel all").click()
    expect(page.locator(".row")).not_to_have_count(HUNDREDS)
    expect(page.locator(".row.waiting")).to_have_count(0)


def test_the_queue_goes_on_after_a_reload_and_stores_each_file_once(tabs: Tabs, pipeline: LivePipeline) -> None:
    page = tabs.open()
    # Accepted by the log, but the answer is lost: the repetition after the reload must find the first one.
    pipeline.log.lost.append(Unavailable("kafka", "no ack"))
    pipeline.set_kafka(False)
    choose(page, *(file(f"{number}.jpg", JPEG + bytes(number)) for number in range(5)))
    expect(page.get_by_text("Kafka is unavailable.").first).to_be_visible()
    expect(page.get_by_text("Reading the file.")).to_have_count(0)
    page.reload()
    expect(page.locator(".row")).to_have_count(5)
    pipeline.set_kafka(True)
    expect(page.locator(".tile.ready")).to_have_count(5)
    assert len({command.image_id for command in pipeline.log.commands}) == 5  # type: ignore[union-attr]


def test_another_tab_takes_over_the_queue_of_a_closed_tab_but_not_of_a_reloaded_one(
    tabs: Tabs, pipeline: LivePipeline
) -> None:
    other = tabs.open()
    other.clock.install()
    other.reload()
    page = tabs.open()
    pipeline.set_kafka(False)
    choose(page, file("new.jpg"))
    expect(page.get_by_text("Kafka is unavailable.").first).to_be_visible()
    other.clock.run_for(LOOK_MILLISECONDS)
    page.reload()
    expect(row(page, "new.jpg")).to_have_count(1)
    expect(row(other, "new.jpg")).to_have_count(0)
    page.close()
    for _ in range(LOOKS_THAT_TAKE_OVER):
        other.clock.run_for(LOOK_MILLISECONDS)
    expect(row(other, "new.jpg")).to_have_count(1)
    pipeline.set_kafka(True)


LOOK_MILLISECONDS = 5_000
"""The pause between two looks of the page for queues of closed tabs."""
LOOKS_THAT_TAKE_OVER = 3


def test_a_file_that_the_browser_no_longer_holds_is_named(tabs: Tabs, pipeline: LivePipeline) -> None:
    page = tabs.open()
    pipeline.set_kafka(False)
    choose(page, file("kept.jpg"))
    expect(page.get_by_text("Kafka is unavailable.").first).to_be_visible()
    page.evaluate(FORGET_FILES)
    page.reload()
    expect(row(page, "kept.jpg").locator(".text")).to_contain_text("the browser no longer holds this file")
    pipeline.set_kafka(True)
    with page.expect_file_chooser() as chooser:
        page.get_by_role("button", name="Choose kept.jpg").click()
    chooser.value.set_files(file("kept.jpg"))  # type: ignore[arg-type]
    expect(row(page, "kept.jpg").locator(".text")).to_have_text(re.compile("Ready"))
    assert len(pipeline.log.commands) == 1


FORGET_FILES = """() => new Promise((resolve) => {
  const request = indexedDB.open('imagepipe');
  request.onsuccess = () => {
    const transaction = request.result.transaction('files', 'readwrite');
    transaction.objectStore('files').clear();
    transaction.oncomplete = resolve;
  };
})"""


def test_progress_is_shown_in_bytes_and_an_upload_can_be_cancelled(tabs: Tabs, pipeline: LivePipeline) -> None:
    page = tabs.open()
    session = page.context.new_cdp_session(page)
    session.send("Network.enable")
    slow = {"offline": False, "latency": 0, "downloadThroughput": -1, "uploadThroughput": 500_000}
    session.send("Network.emulateNetworkConditions", slow)
    large = PNG + bytes(1_100_000)
    choose(page, file("slow.png", large, "image/png"), file("slower.png", large + b"x", "image/png"))
    expect(row(page, "slow.png").locator(".text")).to_have_text(re.compile(r"^[\d.]+ (KB|MB|B) of [\d.]+ MB$"))
    wait_for(lambda: page.locator(".tile .chip", has_text="uploading").count(), 20, "the tile of what is sent")
    page.get_by_role("button", name="Cancel slower.png").click()
    expect(row(page, "slower.png")).to_have_count(0)
    session.send("Network.emulateNetworkConditions", {**slow, "uploadThroughput": -1})
    expect(row(page, "slow.png").locator(".text")).to_have_text(re.compile("Ready"))
    assert len(pipeline.log.commands) == 1


def test_folders_are_read_and_other_files_are_left_out(tabs: Tabs, tmp_path: Path) -> None:
    folder = tmp_path / "holiday"
    (folder / "day two").mkdir(parents=True)
    (folder / "one.jpg").write_bytes(JPEG)
    (folder / "day two" / "two.png").write_bytes(PNG)
    (folder / "readme.txt").write_text("photos")
    page = tabs.open()
    choose(page, file("first.jpg"))
    expect(page.locator(".tile.ready")).to_have_count(1)
    with page.expect_file_chooser() as chooser:
        page.get_by_role("button", name="a folder").click()
    chooser.value.set_files(folder)
    expect(page.get_by_text("1 file of the folder is no picture and was left out.").first).to_be_visible()
    expect(page.locator(".tile.ready")).to_have_count(3)


@pytest.mark.parametrize("owner", ["", "product:café 7"])
def test_the_owner_is_used_and_remembered(tabs: Tabs, pipeline: LivePipeline, owner: str) -> None:
    page = tabs.open()
    kind, _, number = owner.partition(":")
    if kind:
        page.get_by_label("Owner type").fill(kind)
    page.get_by_label("Owner id").fill(number)
    page.get_by_label("Owner id").press("Enter")
    choose(page, file("mine.jpg"), button="Choose photos")
    expect(page.locator(".tile.ready")).to_have_count(1)
    [command] = pipeline.log.commands
    assert command.owner.type == (kind or "image")
    again = tabs.open("")
    expect(again.get_by_label("Owner id")).to_have_value(number)


def test_a_gateway_that_does_not_answer_leaves_no_blank_page(tabs: Tabs, pipeline: LivePipeline) -> None:
    page = tabs.context.new_page()
    held: list[Any] = []

    def hold(route: Any) -> None:
        held.append(route)

    page.route("**/status", hold)
    page.goto(f"{pipeline.base_url}/?owner=user:1")
    expect(page.get_by_role("button", name="Choose photos")).to_be_visible()
    expect(page.locator(".system")).to_contain_text("checking")
    for route in held:
        route.continue_()
    expect(page.locator(".system")).to_contain_text("all systems ready")
