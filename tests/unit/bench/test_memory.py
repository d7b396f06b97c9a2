"""The bounds of memory that the bench prints are those of the settings, and its loads reach them."""

import pytest

from bench.deployment import gauge_of
from bench.memory import gateway_bound, loads, pixels_at_once, processor_bound
from processor.fairness import Slots
from processor.rendering.fair import SIDE_BY_SIDE_PIXELS
from shared.settings import Settings

MEGAPIXEL = 1_000_000


@pytest.mark.parametrize(
    ("workers", "inflight", "largest", "megapixels"),
    [
        (3, 64, 64, 64 + 12),  # The largest image runs alone among the common pixels, a small one beside it.
        (3, 64, 24, 48 + 12),
        (2, 64, 64, 64 + 12),
        (1, 64, 64, 64),  # Nothing is kept.
        (3, 16, 64, 64 + 4),  # The kept pixels are fewer than a small image has.
    ],
)
def test_the_pixels_at_once_are_those_of_the_largest_image_and_of_what_is_kept(
    workers: int, inflight: int, largest: int, megapixels: int
) -> None:
    settings = Settings(
        render_workers=workers, max_inflight_pixels=inflight * MEGAPIXEL, max_pixels=largest * MEGAPIXEL
    )
    assert pixels_at_once(settings) == megapixels * MEGAPIXEL


async def test_the_slots_hold_as_many_pixels_at_once_as_the_bound_says() -> None:
    settings = Settings()
    slots = Slots(settings.render_workers, settings.max_inflight_pixels)
    async with slots.hold("a", settings.max_pixels), slots.hold("b", 12 * MEGAPIXEL):
        # Both are 76 megapixels. A third process is idle, and there is no room for an image in it.
        assert slots.hold_idle("c", SIDE_BY_SIDE_PIXELS) is None


def test_the_bounds_are_what_is_idle_and_the_settings() -> None:
    settings = Settings()
    assert processor_bound(100, settings) == 100 + 64 * 1024**2 + 12 * 76 * MEGAPIXEL
    assert gateway_bound(100, 48, settings) == 100 + 256 * 1024**2 + 48 * 256 * 1024


def test_the_loads_fill_the_pixels_that_are_decoded_at_once_and_the_last_one_has_two_processes_for_a_photo() -> None:
    largest, queue, alone = loads(1)
    pixels = [[width * height // MEGAPIXEL for width, height in load.sizes] for load in (largest, queue, alone)]
    assert sum(pixels[0][:2]) * MEGAPIXEL == pixels_at_once(Settings())
    assert pixels == [[64, 12, 12, 12, 12], [24, 24, 12] * 2, [24, 24]]
    assert (largest.queued, queue.queued, alone.queued) == (True, True, False)


def test_a_gauge_is_read_from_a_page_of_metrics() -> None:
    page = "# TYPE held gauge\nheld_bytes 3.0\nheld 2.0\n"
    assert gauge_of(page, "held") == 2
    with pytest.raises(StopIteration):
        gauge_of(page, "missing")
