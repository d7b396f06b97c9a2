"""Fair rendering: gives the render processes, and the pixels for which there is memory, to owners in turn."""

import asyncio
import contextlib

from processor.fairness import Slots
from processor.rendering.pool import RenderPool
from processor.rendering.render import Rendering, RenderLimits, decoded_pixels
from processor.stages import stage
from shared.contract.keys import Owner
from shared.contract.ladder import Ladder
from shared.settings import Settings


class FairRenderer:
    """Renders in the pool. Owners get the processes and the pixels in turn, small images a part of their own."""

    def __init__(self, pool: RenderPool, settings: Settings) -> None:
        self._pool = pool
        self._slots = Slots(settings.render_workers, settings.max_inflight_pixels)
        self._limits = RenderLimits(
            max_pixels=settings.max_pixels,
            max_side=settings.max_side,
            max_frames=settings.max_frames,
            max_animation_pixels=settings.max_animation_pixels,
        )

    async def __call__(self, owner: Owner, data: bytes, ladder: Ladder) -> Rendering:
        """See processor.handler.Renderer."""
        # This runs in a thread, because a hostile file can have thousands of chunks.
        pixels = await asyncio.to_thread(decoded_pixels, data, self._limits)
        async with contextlib.AsyncExitStack() as held:
            with stage("slot"):
                await held.enter_async_context(self._slots.hold(owner.key, pixels))
            with stage("render"):
                return await self._pool.render(data, ladder, self._limits, pixels)
