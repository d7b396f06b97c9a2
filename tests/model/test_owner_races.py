"""Thousands of races on one owner keep every rule, and the model finds each deliberate bug.

The bugs are made here, by replacing pieces of the product.
"""

import asyncio
import logging
from collections.abc import Callable, Iterator
from uuid import UUID

import pytest
import structlog

from gateway.services.changes import Changes
from gateway.services.set_leases import SetLease
from shared.contract.keys import Owner
from tests.model.owner_races import OwnerRaces, verdict

HISTORIES = 1000
SEARCH = 2000
"""Histories within which a deliberate bug must show."""


@pytest.fixture(autouse=True)
def quiet() -> Iterator[None]:
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))
    yield
    structlog.reset_defaults()


async def first_broken(seeds: range) -> str | None:
    for seed in seeds:
        world = OwnerRaces(seed)
        await world.run()
        if wrong := await verdict(world):
            return f"{wrong}: seed {seed}"
    return None


def test_random_races_keep_every_rule() -> None:
    assert asyncio.run(first_broken(range(HISTORIES))) is None


def caches_are_forgotten_at_the_fence_only(patch: pytest.MonkeyPatch) -> None:
    notify = Changes.notify
    at_the_fence: set[object] = set()

    def once(self: Changes, image_id: UUID | None, owner: Owner) -> None:
        task = asyncio.current_task()
        if image_id is None and task in at_the_fence:
            at_the_fence.discard(task)
            return
        if image_id is None:
            at_the_fence.add(task)
        notify(self, image_id, owner)

    patch.setattr(Changes, "notify", once)


def lease_is_not_confirmed(patch: pytest.MonkeyPatch) -> None:
    async def trust(self: SetLease) -> None:
        return None

    patch.setattr(SetLease, "confirm", trust)


BUGS: list[Callable[[pytest.MonkeyPatch], None]] = [
    caches_are_forgotten_at_the_fence_only,
    lease_is_not_confirmed,
]


@pytest.mark.parametrize("bug", BUGS, ids=lambda bug: str(bug.__name__))
def test_deliberate_bug_is_found(bug: Callable[[pytest.MonkeyPatch], None], monkeypatch: pytest.MonkeyPatch) -> None:
    bug(monkeypatch)
    assert asyncio.run(first_broken(range(SEARCH))) is not None
