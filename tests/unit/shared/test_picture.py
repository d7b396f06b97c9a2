"""The HTML element `picture` of an image."""

from html.parser import HTMLParser

import pytest

from shared.contract.events import Current, Variant
from shared.contract.keys import new_id, variant_key
from shared.read_model.documents import media_url
from shared.read_model.picture import picture
from tests.support import records
from tests.support.records import BASE

IMAGE, REVISION = new_id(), new_id()
RENDER = "0123456789abcdef"
WEBP = [("full", "image/webp", 1600), ("large", "image/webp", 1200), ("small", "image/webp", 400)]
AVIF = [("large_avif", "image/avif", 1200), ("small_avif", "image/avif", 400)]
SHARE = [("share", "image/jpeg", 1200)]
MEDIA = media_url(BASE, "")


def current(*variants: tuple[str, str, int]) -> Current:
    found = []
    for name, content_type, width in variants:
        path = variant_key(IMAGE, REVISION, RENDER, name, content_type)
        found.append(
            Variant(
                name=name, path=path, url=media_url(BASE, path), content_type=content_type, width=width,
                height=width * 3 // 4, size=1, sha256="ab" * 32,
            )
        )  # fmt: skip
    return records.current(IMAGE, REVISION, 2, RENDER, variants=tuple(found))


@pytest.mark.parametrize(
    ("variants", "types", "fallback"),
    [
        (WEBP, ["image/webp"], "large.webp"),
        (WEBP + AVIF, ["image/avif", "image/webp"], "large.webp"),
        (WEBP + AVIF + SHARE, ["image/avif", "image/webp", "image/jpeg"], "share.jpg"),
        (WEBP[:1], ["image/webp"], "full.webp"),
    ],
)
def test_the_sources_are_by_type_and_the_fallback_is_for_every_browser(
    variants: list[tuple[str, str, int]], types: list[str], fallback: str
) -> None:
    found = picture(current(*variants), MEDIA)
    assert [source["type"] for source in found["sources"]] == types
    for source in found["sources"]:
        widths = sorted(width for _, kind, width in variants if kind == source["type"])
        assert source["widths"] == widths
        assert [part.split(" ")[1] for part in source["srcset"].split(", ")] == [f"{width}w" for width in widths]
    assert found["img"]["src"].startswith(f"{BASE}/media/images/{IMAGE}/")
    assert found["img"]["src"].endswith(f"/{fallback}")
    assert found["img"]["height"] == found["img"]["width"] * 3 // 4


def test_a_width_that_occurs_twice_is_named_once() -> None:
    found = picture(current(("full", "image/webp", 1), ("large", "image/webp", 1)), MEDIA)
    assert found["sources"][0]["widths"] == [1]


def test_the_html_is_the_same_as_the_parts() -> None:
    found = picture(current(*WEBP, *AVIF, *SHARE), 'https://img.example.org/"><script>/')
    tags: list[tuple[str, dict[str, str | None]]] = []

    class Reader(HTMLParser):
        def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
            tags.append((tag, dict(attrs)))

    Reader().feed(found["html"])
    assert [tag for tag, _ in tags] == ["picture", "source", "source", "source", "img"]
    for (_, attributes), source in zip(tags[1:4], found["sources"], strict=True):
        assert (attributes["type"], attributes["srcset"]) == (source["type"], source["srcset"])
    img = tags[4][1]
    assert (img["src"], img["width"], img["height"]) == (
        found["img"]["src"], str(found["img"]["width"]), str(found["img"]["height"]),
    )  # fmt: skip
    assert img["style"] == "background-color:#7f6f5f"
    assert img["loading"] == "lazy"
