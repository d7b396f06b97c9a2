"""The gallery and the viewer: live updates, selecting, deleting with undo, replacing, links, and the keyboard."""

import re

from playwright.sync_api import Page, expect

from shared.observability.metrics import Service
from tests.browser.conftest import Tabs
from tests.browser.test_upload import JPEG, choose, file
from tests.support.api import Api
from tests.support.images import animation, broken_png, encode, photo
from tests.support.memory.live import LIMITS, LivePipeline
from tests.support.metric_samples import sample
from tests.support.waiting import wait_for

OTHER = encode(photo(200, 300), "JPEG")
USER = {"user_id": "1"}
PLACEHOLDER_SIDE = 24


def uploaded(pipeline: LivePipeline, count: int, **owner: str) -> list[str]:
    """Ids of new images, once they are ready."""
    with Api(pipeline.base_url) as api:
        ids = [api.upload(JPEG, f"{number}.jpg", **(owner or USER))["image_id"] for number in range(count)]
        return [api.settled(image_id)["image_id"] for image_id in ids]


def ids_of(pipeline: LivePipeline) -> list[str]:
    with Api(pipeline.base_url) as api:
        return api.ids_of(**USER)


def tile(page: Page, name: str) -> object:
    return page.get_by_role("link", name=re.compile(f"^{re.escape(name)}, "))


def test_two_tabs_share_one_stream_and_show_what_happens_elsewhere(tabs: Tabs, pipeline: LivePipeline) -> None:
    first, second = tabs.open(), tabs.open()
    other_owner = tabs.open("?owner=user:2")
    expect(second.locator(".foot")).to_be_attached()
    [image_id] = uploaded(pipeline, 1)
    for page in (first, second):
        expect(page.locator(".tile.ready")).to_have_count(1)
    assert sample(Service.GATEWAY, "imagepipe_gateway_event_listeners") == 2
    first.close()
    [another] = uploaded(pipeline, 1)
    expect(second.locator(".tile.ready")).to_have_count(2)
    with Api(pipeline.base_url) as api:
        api.delete(f"/images/{image_id}").raise_for_status()
    expect(second.locator(".tile")).to_have_count(1)
    expect(other_owner.locator(".tile")).to_have_count(0)
    assert ids_of(pipeline) == [another]


def test_a_failure_elsewhere_appears_with_its_reason(tabs: Tabs, pipeline: LivePipeline) -> None:
    page = tabs.open()
    with Api(pipeline.base_url) as api:
        api.upload(broken_png(), "scan \u05d0\u05d1.png", **USER)
    expect(page.locator(".tile.failed")).to_contain_text("The picture cannot be decoded.")
    expect(page.locator(".tile.failed bdi")).to_have_attribute("dir", "auto")


def test_a_deletion_can_be_undone_and_goes_out_when_the_time_ends_or_the_page_is_left(
    tabs: Tabs, pipeline: LivePipeline
) -> None:
    ids = uploaded(pipeline, 3)
    page = tabs.open()
    page.clock.install()
    tile(page, "0.jpg").focus()  # type: ignore[attr-defined]
    page.keyboard.press("Delete")
    expect(page.locator(".tile")).to_have_count(2)
    page.get_by_role("button", name="Undo").click()
    expect(page.locator(".tile")).to_have_count(3)
    assert len(ids_of(pipeline)) == 3

    tile(page, "0.jpg").focus()  # type: ignore[attr-defined]
    page.keyboard.press("Delete")
    page.mouse.move(5, 5)
    page.clock.run_for(9_000)
    wait_for(lambda: ids_of(pipeline) == [ids[2], ids[1]], 20, "the deletion after the time")

    tile(page, "1.jpg").focus()  # type: ignore[attr-defined]
    page.keyboard.press("Delete")
    page.goto("about:blank")
    wait_for(lambda: ids_of(pipeline) == [ids[2]], 20, "the deletion of a page that was left")


def test_many_are_selected_copied_and_deleted(tabs: Tabs, pipeline: LivePipeline) -> None:
    uploaded(pipeline, 4)
    page = tabs.open()
    page.get_by_label("Select 3.jpg").check()
    page.get_by_label("Select 1.jpg").click(modifiers=["Shift"])
    toolbar = page.get_by_role("toolbar")
    expect(toolbar).to_contain_text("3 selected")
    toolbar.get_by_role("button", name="Copy links").click()
    expect(page.get_by_text("3 links copied.").first).to_be_visible()
    links = page.evaluate("navigator.clipboard.readText()").split("\n")
    assert [link.rpartition("/")[2] for link in links] == ["full.webp"] * 3
    toolbar.get_by_role("button", name="Delete").click()
    expect(page.locator(".tile")).to_have_count(1)
    expect(page.locator(".count")).to_have_text("1 image")
    page.goto("about:blank")
    wait_for(lambda: len(ids_of(pipeline)) == 1, 20, "the deletions")


def test_the_viewer_shows_sizes_savings_and_what_a_developer_copies(tabs: Tabs, pipeline: LivePipeline) -> None:
    [image_id] = uploaded(pipeline, 1)
    page = tabs.open()
    tile(page, "0.jpg").click()  # type: ignore[attr-defined]
    expect(page).to_have_url(f"{pipeline.base_url}/?owner=user:1&image={image_id}")
    expect(page.get_by_role("row")).to_have_count(6)
    expect(page.get_by_role("row", name=re.compile("^small"))).to_have_text(re.compile(r"small80 × 50\d+ B\d\d %"))
    expect(page.locator(".swatch img")).to_have_js_property("naturalWidth", PLACEHOLDER_SIDE)
    page.get_by_role("button", name="medium").click()
    expect(page.locator(".chip.right")).to_have_text(re.compile(r"^medium · WebP \d+ B$"))
    slider = page.get_by_role("slider")
    slider.focus()
    page.keyboard.press("End")
    expect(slider).to_have_attribute("aria-valuetext", "100 % original, the rest medium")
    for button, expected in (
        ("Copy URL", r"^http://\S+/medium\.webp$"),
        ("Markdown", r"^!\[0\]\(http://\S+/large\.webp\)$"),
        ("<img>", r'^<img src="\S+/large\.webp" srcset="\S+ 80w, .*" width="240" height="150" alt="0">$'),
        ("<picture>", r'^<picture>\n  <source type="image/webp" srcset="[^"]+".*\n  <img src="\S+/original\.jpg"'),
    ):
        page.get_by_role("button", name=button, exact=True).click()
        expect(page.locator(".toast").last).to_have_text("Copied.")
        assert re.match(expected, page.evaluate("navigator.clipboard.readText()"))
    page.go_back()
    expect(page.locator(".viewer")).to_be_hidden()
    page.go_forward()
    expect(page.get_by_role("heading", name="0.jpg")).to_be_visible()
    page.keyboard.press("Escape")
    expect(page.locator(".viewer")).to_be_hidden()


def test_the_viewer_says_what_was_changed(tabs: Tabs, pipeline: LivePipeline) -> None:
    with Api(pipeline.base_url) as api:
        long = animation("WEBP", frames=LIMITS.max_frames + 1)
        image_id = api.settled(api.upload(long, "moving.webp", **USER)["image_id"])["image_id"]
    page = tabs.open(f"?owner=user:1&image={image_id}")
    expect(page.locator(".details")).to_contain_text("Only the first frame of the animation was kept.")


def test_a_link_to_an_image_opens_it_and_a_deleted_one_is_said_to_be_gone(tabs: Tabs, pipeline: LivePipeline) -> None:
    older, newer = uploaded(pipeline, 2)
    page = tabs.open(f"?owner=user:1&image={older}")
    expect(page.get_by_role("heading", name="0.jpg")).to_be_visible()
    page.get_by_role("button", name="Previous").click()
    expect(page.get_by_role("heading", name="1.jpg")).to_be_visible()
    with Api(pipeline.base_url) as api:
        api.delete(f"/images/{newer}").raise_for_status()
    expect(page.get_by_text("There is no such image. It may have been deleted.")).to_be_visible()
    page.get_by_role("button", name="All images").click()
    expect(page.locator(".tile")).to_have_count(1)


def test_an_image_is_replaced_and_the_old_one_stays_until_the_new_one_is_ready(
    tabs: Tabs, pipeline: LivePipeline
) -> None:
    [image_id] = uploaded(pipeline, 1)
    page = tabs.open(f"?owner=user:1&image={image_id}")
    pipeline.hold()
    with page.expect_file_chooser() as chooser:
        page.get_by_role("button", name="Replace…").click()
    chooser.value.set_files(file("new.jpg", OTHER))  # type: ignore[arg-type]
    expect(page.locator(".notice")).to_contain_text("The old picture stays until the new one is ready.")
    expect(page.get_by_role("heading", name="0.jpg")).to_be_visible()
    pipeline.release()
    expect(page.get_by_role("heading", name="new.jpg")).to_be_visible()
    expect(page.locator(".notice")).to_have_count(0)
    with page.expect_file_chooser() as chooser:
        page.get_by_role("button", name="Replace…").click()
    chooser.value.set_files(file("broken.png", broken_png(), "image/png"))  # type: ignore[arg-type]
    expect(page.locator(".notice.failed")).to_contain_text("The picture cannot be decoded. The old one stays.")
    expect(page.get_by_role("heading", name="new.jpg")).to_be_visible()


def test_the_keyboard_alone_is_enough(tabs: Tabs, pipeline: LivePipeline) -> None:
    uploaded(pipeline, 3)
    page = tabs.open()
    expect(page.locator(".tile.ready")).to_have_count(3)
    seen: list[str] = []
    while not seen or not seen[-1].startswith("2.jpg"):
        page.keyboard.press("Tab")
        seen.append(
            page.evaluate("document.activeElement.getAttribute('aria-label') || document.activeElement.innerText")
        )
        assert len(seen) < 15, seen
    assert seen[0] == "Skip to the images"
    assert "Upload" in seen
    assert "choose files" in seen
    page.keyboard.press("ArrowRight")
    page.keyboard.press("Space")
    expect(page.get_by_role("toolbar")).to_contain_text("1 selected")
    page.keyboard.press("Escape")
    page.keyboard.press("Enter")
    expect(page.get_by_role("heading", name="1.jpg")).to_be_visible()
    page.keyboard.press("ArrowRight")
    expect(page.get_by_role("heading", name="0.jpg")).to_be_visible()
    page.keyboard.press("Escape")
    assert page.evaluate("document.activeElement.getAttribute('aria-label')").startswith("0.jpg")
    page.keyboard.press("Delete")
    expect(page.locator(".tile")).to_have_count(2)


def test_the_page_speaks_german(tabs: Tabs, pipeline: LivePipeline) -> None:
    browser = tabs.context.browser
    assert browser is not None
    context = browser.new_context(locale="de-AT")
    page = Tabs(context, pipeline.base_url).open()
    expect(page.get_by_role("heading", name="Ein Foto ablegen. Es kommt in vier Größen zurück.")).to_be_visible()
    assert page.evaluate("document.documentElement.lang") == "de"
    choose(page, file("notiz.png", b"Milch", "image/png"), button="Fotos wählen")
    expect(page.get_by_text("der Inhalt ist aber Text.")).to_be_visible()
    context.close()
