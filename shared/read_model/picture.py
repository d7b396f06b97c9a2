"""The HTML element `picture` of an image: what a page needs to show the variants in the best format of each browser."""

from collections.abc import Sequence
from html import escape
from typing import Any

from shared.contract.events import Current, Variant

PREFERENCE = ("image/avif", "image/webp", "image/jpeg")
"""Types of sources. A browser takes the first that it knows, so the smallest files come first."""
FALLBACK_WIDTH = 1280
"""Pixels. `<img>` has the largest file of at most this width, because its browser may know no `srcset` either."""


def picture(current: Current, media: str) -> dict[str, Any]:
    """The element in parts, and as HTML. `media` is put before the paths of the files.

    The files of one type are one source. `<img>` has a JPEG if there is one, which every browser and mail client shows.
    Its width and height are the file's own: they reserve the space, and the page's style decides the size.
    """
    by_type = {kind: of_type(current.variants, kind) for kind in PREFERENCE}
    sources = [
        {
            "type": kind,
            "widths": [variant.width for variant in found],
            "srcset": source_set(found, media),
        }
        for kind, found in by_type.items()
        if found
    ]
    shown = _fallback(by_type["image/jpeg"] or by_type["image/webp"] or current.variants)
    img = {
        "src": f"{media}{shown.path}",
        "width": shown.width,
        "height": shown.height,
        "thumbhash": current.thumbhash,
        "dominant_color": current.dominant_color,
    }
    return {"sources": sources, "img": img, "html": _html(sources, img)}


def of_type(variants: Sequence[Variant], content_type: str) -> list[Variant]:
    """The variants of a type by ascending width, each width once."""
    by_width = {variant.width: variant for variant in reversed(variants) if variant.content_type == content_type}
    return [by_width[width] for width in sorted(by_width)]


def source_set(variants: Sequence[Variant], media: str) -> str:
    """Value of the HTML attribute `srcset` for these variants, which have different widths."""
    return ", ".join(f"{media}{variant.path} {variant.width}w" for variant in variants)


def _fallback(variants: Sequence[Variant]) -> Variant:
    small = [variant for variant in variants if variant.width <= FALLBACK_WIDTH]
    if small:
        return max(small, key=lambda variant: variant.width)
    return min(variants, key=lambda variant: variant.width)


def _html(sources: Sequence[dict[str, Any]], img: dict[str, Any]) -> str:
    """The element. A page adds the text in `alt`, and `sizes` if the image is narrower than the window."""
    parts = [
        f'<source type="{source["type"]}" srcset="{escape(source["srcset"])}" sizes="100vw">' for source in sources
    ]
    parts.append(
        f'<img src="{escape(img["src"])}" width="{img["width"]}" height="{img["height"]}" alt="" loading="lazy" '
        f'style="background-color:{escape(img["dominant_color"])}">'
    )
    return f"<picture>{''.join(parts)}</picture>"
