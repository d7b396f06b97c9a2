"""Rule: of two sets that replace an owner's images at the same time exactly one is left, whole, and no other image."""

import random
import secrets
import time
from collections.abc import Collection
from typing import ClassVar

from tests.races.front import Answer, Front
from tests.races.race import View
from tests.support.images import encode, photo

FILES = [encode(photo(64 + 8 * number, 48), "JPEG") for number in range(4)]
SIZES = ((2, 2), (2, 1), (1, 2), (1, 1))
ALREADY_THERE = (0, 1, 3)
SETTLED_SECONDS = 9.0
"""Within this time of the answers, a request without a known outcome can be repeated. It is longer than the leases that
the killed gateway has (see test_races.py)."""


class SetAgainstSet:
    """Two `PUT /images?user_id=` of one owner."""

    name: ClassVar[str] = "PUT set, PUT set"
    refusal: ClassVar[int | None] = 409

    def __init__(self, rng: random.Random) -> None:
        self._token = secrets.token_hex(8)
        self._owner = {"user_id": self._token}
        self._sizes = rng.choice(SIZES)
        self._already_there = rng.choice(ALREADY_THERE)
        self._answers: list[Answer] | None = None
        self._answered = 0.0

    async def prepare(self, front: Front) -> None:
        files = [("image", (f"old-{number}.jpg", FILES[number])) for number in range(self._already_there)]
        if files:
            answer = await front.ask("POST", "/images", params=self._owner, files=files, headers={"Prefer": "wait=15"})
            assert answer.is_success, answer

    def _names(self, number: int) -> list[str]:
        return [f"set-{number}-{position}.jpg" for position in range(self._sizes[number])]

    async def send(self, number: int, front: Front) -> Answer:
        files = [("image", (name, FILES[position])) for position, name in enumerate(self._names(number))]
        key = {"Idempotency-Key": f"{self._token}-{number}"}
        return await front.ask("PUT", "/images", params=self._owner, files=files, headers=key)

    async def broken(self, view: View) -> Collection[str]:
        if self._answers is None:
            self._answers, self._answered = list(view.answers), time.monotonic()
        steady = view.fronts[0]
        for number, answer in enumerate(self._answers):
            # As a client does: the outcome of a request is not known before it is repeated with its key.
            if answer.status in (0, 503) and (again := await self.send(number, steady)).is_success:
                self._answers[number] = again
        if any(answer.status in (0, 503) for answer in self._answers):
            return {"no answer"} if time.monotonic() - self._answered > SETTLED_SECONDS else []
        accepted = [self._names(number) for number, answer in enumerate(self._answers) if answer.is_success]
        return {what for front in view.fronts if (what := await self._wrong(front, accepted))}

    async def _wrong(self, front: Front, accepted: list[list[str]]) -> str | None:
        listed = await front.ask("GET", "/images", params=self._owner, fresh=True)
        if not listed.is_success:
            return None
        # Until a replacement is rendered, the list shows the file that it replaces.
        names = sorted((image["pending"] or image)["file_name"] for image in listed.body)
        if names in accepted:
            return None
        of_sets = [name for name in names if name.startswith("set-")]
        return "torn" if of_sets else "both lost"
