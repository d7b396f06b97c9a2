"""Fair rendering: gives the render processes, and the pixels for which there is memory, to owners in turn."""

import asyncio
import contextlib
from contextlib import ExitStack

from processor.fairness import Slots
from processor.rendering.pool import RenderPool
from processor.rendering.render import Part, Rendering, RenderLimits, decoded_pixels, joined
from processor.stages import stage
from shared.contract.keys import Owner
from shared.contract.ladder import Ladder
from shared.settings import Settings

SIDE_BY_SIDE_PIXELS = 250_000
"""Below it an image takes at most 0.1 s in one process. Two processes would take a third less, but decode it twice.
Measured on two cores with a JPEG: 100 ms and 67 ms at this size, 300 and 190 ms with a million pixels."""


class FairRenderer:
    """Renders in the pool. Owners get the processes and the pixels in turn, small images a part of their own.

    While a second process is idle and no image waits, two processes render one image: one encodes the full size, the
    other scales and encodes the smaller ones. The second one needs memory for the pixels as well. The variants have the
    same bytes as those of one process.
    """

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
                second = self._slots.hold_idle(owner.key, pixels) if pixels >= SIDE_BY_SIDE_PIXELS else None
                if second is None:
                    return await self._pool.render(data, ladder, self._limits, pixels)
                # Also here, because the part that ends the slot does not start if this task is cancelled right now.
                with second:
                    return await self._side_by_side(data, ladder, pixels, second)

    async def _side_by_side(self, data: bytes, ladder: Ladder, pixels: int, second: ExitStack) -> Rendering:
        """Render both parts at the same time. The second slot ends with its part, which is usually the shorter one."""

        async def smaller() -> Rendering:
            with second:
                return await self._pool.render(data, ladder, self._limits, pixels, Part.SMALLER)

        # An error does not cancel the other part: that would kill a process which is about to report the same error.
        parts = await asyncio.gather(
            self._pool.render(data, ladder, self._limits, pixels, Part.FULL_SIZE), smaller(), return_exceptions=True
        )
        full_size, rest = (_result(part) for part in parts)
        try:
            return joined(ladder, full_size, rest)
        except ValueError:
            # Only a decoder that an attacker controls reads two pictures from the same bytes. One process decides.
            return await self._pool.render(data, ladder, self._limits, pixels)


def _result(part: Rendering | BaseException) -> Rendering:
    if isinstance(part, BaseException):
        raise part
    return part
