"""Rules: after the answer to a clear no image of the owner is shown any more, and none can be replaced."""

import random
import secrets
from collections.abc import Collection
from typing import Any, ClassVar

from tests.races.front import Answer, Front
from tests.races.places import paths_of, places
from tests.races.race import View
from tests.support.images import encode, photo

BEFORE = encode(photo(64, 48), "JPEG")
AFTER = encode(photo(48, 64), "JPEG")
READS = 8
"""Times that the owner's list and its images are read beside a clear. It takes as long as the clear, or longer."""


class _Clear:
    """An owner with some images, one of which is being replaced or read."""

    def __init__(self, rng: random.Random) -> None:
        self._owner = {"user_id": secrets.token_hex(8)}
        # Half of the images are still being rendered when the race begins.
        self._wait = {"Prefer": "wait=15"} if rng.random() < 0.5 else {}
        self._count = rng.randint(1, 3)
        self._images: list[dict[str, Any]] = []

    async def prepare(self, front: Front) -> None:
        files = [("image", (f"{number}.jpg", BEFORE)) for number in range(self._count)]
        answer = await front.ask("POST", "/images", params=self._owner, files=files, headers=self._wait)
        assert answer.is_success, answer
        self._images = answer.body["images"] if self._count > 1 else [answer.body]

    async def _clear(self, front: Front) -> Answer:
        return await front.ask("DELETE", "/images", params=self._owner)

    async def _shown(self, front: Front, *, fresh: bool) -> set[str]:
        """Where the first image is shown, and whether any other is listed."""
        first = self._images[0]
        seen = await places(front, first["image_id"], self._owner, paths_of(first), fresh=fresh)
        listed = await front.ask("GET", "/images", params=self._owner, fresh=fresh)
        return seen | ({"owner's list"} if listed.is_success and listed.body else set())


class ClearAgainstReads(_Clear):
    """`DELETE /images?user_id=` of one client that has just read everything (request 0), and reads (request 1)."""

    name: ClassVar[str] = "DELETE owner, reads"
    refusal: ClassVar[int | None] = None

    async def send(self, number: int, front: Front) -> Answer:
        if number == 0:
            # The gateway has in its caches what it deletes.
            await self._shown(front, fresh=False)
            return await self._clear(front)
        answer = Answer(0)
        for _ in range(READS):
            answer = await front.ask("GET", "/images", params=self._owner)
            await front.ask("GET", f"/images/{self._images[0]['image_id']}/metadata")
        return answer

    async def broken(self, view: View) -> Collection[str]:
        if not view.answers[0].is_success:
            return []
        # The gateway that cleared the owner must not serve the images from its caches either.
        seen = [await self._shown(front, fresh=front is not view.asked[0]) for front in view.fronts]
        return set().union(*seen)


class ClearAgainstReplace(_Clear):
    """`PUT /images/{id}` (request 0) and `DELETE /images?user_id=` (request 1) of its owner."""

    name: ClassVar[str] = "PUT image, DELETE owner"
    refusal: ClassVar[int | None] = None

    async def send(self, number: int, front: Front) -> Answer:
        if number == 1:
            return await self._clear(front)
        return await self._replace(front)

    async def broken(self, view: View) -> Collection[str]:
        if not view.answers[1].is_success:
            return []
        broken: set[str] = set()
        for front in view.fronts:
            if (await self._replace(front)).is_success:
                broken.add("replaced after the clear")
            broken |= await self._shown(front, fresh=front is not view.asked[1])
        return broken

    async def _replace(self, front: Front) -> Answer:
        return await front.ask("PUT", f"/images/{self._images[0]['image_id']}", files={"image": ("after.jpg", AFTER)})
