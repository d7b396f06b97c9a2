"""Pictures share the render processes by their decoded pixels: every frame of an animation counts."""

import asyncio
import zlib

import pytest

from processor.rendering.fair import FairRenderer
from processor.rendering.pool import RenderPool
from processor.rendering.render import Part, RenderedVariant, Rendering, RenderLimits, decoded_pixels, joined, render
from shared.contract.keys import Owner
from shared.contract.ladder import Ladder
from shared.errors import ImageRejected
from shared.settings import Settings
from tests.support import images
from tests.support.memory.gateway import memory_settings
from tests.support.waiting import wait_for_async
from tests.unit.processor.test_pool import pool_of
from tests.unit.processor.test_render import LIMITS

OWNER = Owner(type="user", id="1")
FRAME = 64 * 48


def nothing(ladder: Ladder, part: Part, width: int = 1) -> Rendering:
    """A rendering of files without bytes."""
    variants = (RenderedVariant(rung.name, b"", 1, 1, "") for rung in part.rungs(ladder, width))
    return Rendering(width, 1, tuple(variants), "", "#000000", ())


class CountingPool(RenderPool):
    """Renders nothing, and counts how many pictures are rendered at the same time."""

    def __init__(self) -> None:
        super().__init__(0, 60)
        self.running = self.most = 0
        self.parts: list[Part] = []

    async def render(
        self, data: bytes, ladder: Ladder, limits: RenderLimits, pixels: int | None = None, part: Part = Part.WHOLE
    ) -> Rendering:
        self.parts.append(part)
        self.running += 1
        self.most = max(self.most, self.running)
        await asyncio.sleep(0.05)
        self.running -= 1
        return nothing(ladder, part)


def settings_of(pixels: int) -> Settings:
    return memory_settings(render_workers=4, max_inflight_pixels=pixels)


@pytest.mark.parametrize("kind", ["WEBP", "PNG"])
@pytest.mark.parametrize(("budget", "most"), [(10 * FRAME, 1), (20 * FRAME, 1), (30 * FRAME, 2), (FRAME, 1)])
async def test_animations_are_decoded_together_as_far_as_all_their_frames_fit(
    kind: str, budget: int, most: int
) -> None:
    pool = CountingPool()
    renderer = FairRenderer(pool, settings_of(budget))
    animation = images.animation(kind, frames=10)
    await asyncio.gather(*(renderer(OWNER, animation, Ladder()) for _ in range(4)))
    assert pool.most == most


async def test_a_small_picture_is_rendered_beside_one_above_the_budget() -> None:
    pool = CountingPool()
    renderer = FairRenderer(pool, settings_of(8 * FRAME))
    still = images.encode(images.photo(64, 48), "PNG")
    await asyncio.gather(
        renderer(OWNER, images.animation("WEBP", frames=10), Ladder()), renderer(OWNER, still, Ladder())
    )
    assert pool.most == 2


async def test_stills_are_rendered_in_every_process() -> None:
    pool = CountingPool()
    renderer = FairRenderer(pool, settings_of(4 * FRAME))
    still = images.encode(images.photo(64, 48), "PNG")
    await asyncio.gather(*(renderer(OWNER, still, Ladder()) for _ in range(4)))
    assert pool.most == 4


def test_decoded_pixels_count_every_decoded_frame() -> None:
    animation = images.animation("WEBP", frames=10)
    few = RenderLimits(max_pixels=10**6, max_side=1000, max_frames=9, max_animation_pixels=10**6)
    small = RenderLimits(max_pixels=10**6, max_side=1000, max_frames=100, max_animation_pixels=10 * FRAME - 1)
    assert decoded_pixels(animation, LIMITS) == 10 * FRAME
    for limits in (few, small):
        assert decoded_pixels(animation, limits) == FRAME
        assert render(animation, Ladder(), limits).notes == ("animation_flattened",)
    assert decoded_pixels(b"not a picture", LIMITS) == 0


LARGE = images.encode(images.photo(80, 50).resize((800, 500)), "JPEG")
"""Large enough for two processes."""
TRANSPARENT = images.encode(images.photo(80, 50).convert("RGBA").resize((800, 500)).rotate(10), "PNG")
WITH_OTHER_FORMATS = Ladder(method=0, share_quality=80, avif_quality=50)


@pytest.mark.parametrize("ladder", [Ladder(), WITH_OTHER_FORMATS], ids=["default", "other formats"])
@pytest.mark.parametrize(
    "data",
    [LARGE, TRANSPARENT, images.encode(images.photo(1, 1), "PNG")],
    ids=["photo", "transparent", "one pixel"],
)
def test_two_parts_are_the_whole(data: bytes, ladder: Ladder) -> None:
    check_parts(data, ladder)


def check_parts(data: bytes, ladder: Ladder) -> None:
    full_size, smaller = (render(data, ladder, LIMITS, part) for part in (Part.FULL_SIZE, Part.SMALLER))
    assert joined(ladder, full_size, smaller) == render(data, ladder, LIMITS)


def test_two_parts_of_an_animation_are_the_whole() -> None:
    # Without AVIF: an animated AVIF contains the time at which it was made.
    check_parts(images.animation("WEBP", 2, (800, 500)), Ladder(method=0, share_quality=80))


async def test_an_image_alone_is_rendered_by_two_processes_to_the_same_bytes() -> None:
    async with pool_of(2) as pool:
        renderer = FairRenderer(pool, settings_of(LIMITS.max_pixels))
        assert await renderer(OWNER, LARGE, Ladder()) == render(LARGE, Ladder(), LIMITS)


async def test_both_slots_are_free_after_an_image_that_is_rejected() -> None:
    samples = zlib.compress(bytes((1 + 3 * 800) * 500))[:-30]
    cut = images.PNG_SIGNATURE + images.ihdr(800, 500, 8, 2) + images.chunk(b"IDAT", samples) + images.chunk(b"IEND")
    async with pool_of(2) as pool:
        renderer = FairRenderer(pool, memory_settings(render_workers=2))
        pids = pool.pids
        with pytest.raises(ImageRejected) as whole:
            render(cut, Ladder(), LIMITS)
        for _ in range(3):
            with pytest.raises(ImageRejected) as found:
                await renderer(OWNER, cut, Ladder())
            assert (found.value.reason, found.value.detail) == (whole.value.reason, whole.value.detail)
        assert pool.pids == pids, "no process was killed because of the other one's error"


def parts_of(pool: CountingPool) -> list[str]:
    return sorted(pool.parts)


async def test_only_an_idle_process_helps_another_one() -> None:
    pool = CountingPool()
    renderer = FairRenderer(pool, memory_settings(render_workers=2))
    await asyncio.gather(*(renderer(OWNER, LARGE, Ladder()) for _ in range(3)))
    assert pool.most == 2
    # The first image uses both processes. The others wait for them and take one each.
    assert parts_of(pool) == [Part.FULL_SIZE, Part.SMALLER, Part.WHOLE, Part.WHOLE]


@pytest.mark.parametrize(("workers", "pixels"), [(1, LIMITS.max_pixels), (2, 2 * 800 * 500 - 1)])
async def test_one_process_renders_what_there_is_no_room_for_twice(workers: int, pixels: int) -> None:
    pool = CountingPool()
    renderer = FairRenderer(pool, memory_settings(render_workers=workers, max_inflight_pixels=pixels))
    await renderer(OWNER, LARGE, Ladder())
    assert pool.parts == [Part.WHOLE]


async def test_one_process_renders_a_small_image() -> None:
    pool = CountingPool()
    await FairRenderer(pool, memory_settings(render_workers=2))(
        OWNER, images.encode(images.photo(64, 48), "PNG"), Ladder()
    )
    assert pool.parts == [Part.WHOLE]


async def test_both_slots_are_free_after_a_cancellation() -> None:
    pool = CountingPool()
    renderer = FairRenderer(pool, memory_settings(render_workers=2))
    task = asyncio.create_task(renderer(OWNER, LARGE, Ladder()))
    await wait_for_async(lambda: len(pool.parts) == 2, 10, "both parts have started")
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    pool.parts.clear()
    await renderer(OWNER, LARGE, Ladder())
    assert parts_of(pool) == [Part.FULL_SIZE, Part.SMALLER]


class LyingPool(CountingPool):
    """A decoder that an attacker controls: each process gives another size."""

    async def render(
        self, data: bytes, ladder: Ladder, limits: RenderLimits, pixels: int | None = None, part: Part = Part.WHOLE
    ) -> Rendering:
        self.parts.append(part)
        return nothing(ladder, part, width=1 + list(Part).index(part))


async def test_one_process_decides_if_two_do_not_agree() -> None:
    pool = LyingPool()
    rendering = await FairRenderer(pool, memory_settings(render_workers=2))(OWNER, LARGE, Ladder())
    assert (rendering.width, pool.parts[-1]) == (1, Part.WHOLE)
