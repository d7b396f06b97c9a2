"""Races on one owner: two sets, reads and sometimes a clear, at the same time, over the real gateway and indexer.

A history takes some milliseconds, because no image is rendered. So this model explores many more interleavings of these
few requests than that of the whole pipeline.
"""

import asyncio
import random
from collections.abc import Coroutine, Iterable
from contextlib import suppress
from functools import partial
from typing import Any

from gateway.http.problems import Problem
from shared.errors import Unavailable
from tests.model.pipeline import OWNERS, IndexerProcess, Pipeline, owners_verdict

OWNER = OWNERS[0]
ALREADY_THERE = (0, 1, 3)
SIZES = (1, 2, 3)
CLEARS = 0.5
"""Share of the histories with a clear."""
READS = 12
TRIES = 20
"""Of a set that is refused while the other runs."""


class OwnerRaces(Pipeline):
    """One history. The processor does not run."""

    def __init__(self, seed: int) -> None:
        super().__init__(seed)
        self._make = {"indexer": partial(IndexerProcess, self)}

    def _clients(self) -> Iterable[Coroutine[Any, Any, None]]:
        return [self._race(random.Random(self.rng.random()))]

    async def _race(self, rng: random.Random) -> None:
        for _ in range(rng.choice(ALREADY_THERE)):
            with suppress(Unavailable):
                await self._upload(OWNER)
        requests = [self._set(rng.choice(SIZES)), self._set(rng.choice(SIZES)), self._reads()]
        if rng.random() < CLEARS:
            requests.append(self._clear_and_read())
        await asyncio.gather(*requests)

    async def _set(self, size: int) -> None:
        for _ in range(TRIES):
            await self._stall()
            try:
                await self._replace_set(OWNER, size)
            except (Unavailable, Problem) as error:
                if isinstance(error, Problem) and error.code == "in_flight":
                    continue
            return

    async def _clear_and_read(self) -> None:
        with suppress(Unavailable):
            await self._clear(OWNER)
            await self._read(OWNER)

    async def _reads(self) -> None:
        for _ in range(READS):
            await self._stall()
            await self._read(OWNER)


async def verdict(world: OwnerRaces) -> str | None:
    """The violation at the end of a history, or None."""
    return owners_verdict(world, world.logged())
