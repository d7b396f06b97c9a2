"""Pictures share the render processes by their decoded pixels: every frame of an animation counts."""

import asyncio

import pytest

from processor.rendering.fair import FairRenderer
from processor.rendering.pool import RenderPool
from processor.rendering.render import Rendering, RenderLimits, decoded_pixels, render
from shared.contract.keys import Owner
from shared.contract.ladder import Ladder
from shared.settings import Settings
from tests.support import images
from tests.support.memory.gateway import memory_settings
from tests.unit.processor.test_render import LIMITS

OWNER = Owner(type="user", id="1")
FRAME = 64 * 48


class CountingPool(RenderPool):
    """Renders nothing, and counts how many pictures are rendered at the same time."""

    def __init__(self) -> None:
        super().__init__(0, 60)
        self.running = self.most = 0

    async def render(self, data: bytes, ladder: Ladder, limits: RenderLimits, pixels: int | None = None) -> Rendering:
        self.running += 1
        self.most = max(self.most, self.running)
        await asyncio.sleep(0.05)
        self.running -= 1
        return Rendering(1, 1, (), "", "#000000", ())


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
