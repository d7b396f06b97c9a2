"""Rule: an image whose DELETE was acknowledged is nowhere any more, also if a PUT was acknowledged beside it."""

import random
import secrets
from collections.abc import Collection
from typing import ClassVar

from tests.races.front import Answer, Front
from tests.races.places import paths_of, places
from tests.races.race import View
from tests.support.images import encode, photo

BEFORE = encode(photo(64, 48), "JPEG")
AFTER = encode(photo(48, 64), "JPEG")


class ReplaceAgainstDelete:
    """`PUT /images/{id}` (request 0) and `DELETE /images/{id}` (request 1) of one image."""

    name: ClassVar[str] = "PUT image, DELETE image"
    refusal: ClassVar[int | None] = None

    def __init__(self, rng: random.Random) -> None:
        self._owner = {"user_id": secrets.token_hex(8)}
        # Half of the images are still being rendered when the race begins.
        self._wait = {"Prefer": "wait=15"} if rng.random() < 0.5 else {}
        self._id = ""
        self._paths: set[str] = set()

    async def prepare(self, front: Front) -> None:
        files = {"image": ("before.jpg", BEFORE)}
        answer = await front.ask("POST", "/images", params=self._owner, files=files, headers=self._wait)
        assert answer.is_success, answer
        self._id = answer.body["image_id"]
        self._paths = set(paths_of(answer.body))

    async def send(self, number: int, front: Front) -> Answer:
        if number == 1:
            return await front.ask("DELETE", f"/images/{self._id}")
        return await front.ask("PUT", f"/images/{self._id}", files={"image": ("after.jpg", AFTER)})

    async def broken(self, view: View) -> Collection[str]:
        put, delete = view.answers
        if not delete.is_success:
            return []
        paths = self._paths | set(paths_of(put.body) if put.is_success else ())
        seen: set[str] = set()
        for front in view.fronts:
            # The gateway that deleted the image must not serve it from its caches either.
            seen |= await places(front, self._id, self._owner, paths, fresh=front is not view.asked[1])
        return seen
