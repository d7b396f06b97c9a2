"""Rule: of two updates of one version of an image (`If-Match`) exactly one is carried out, and the other is refused."""

import random
import secrets
import time
from collections.abc import Collection
from typing import ClassVar

from tests.races.front import Answer, Front
from tests.races.race import View
from tests.support.images import encode, photo

BEFORE = encode(photo(64, 48), "JPEG")
AFTER = [encode(photo(48, 64 + 8 * number), "JPEG") for number in range(2)]
METHODS = (("PUT", "PUT"), ("PUT", "DELETE"), ("DELETE", "PUT"))
"""Two deletions of one version are one update: both may be acknowledged."""
UNKNOWN = (0, 409, 503)
"""After these a client repeats its request; 409 says that the other one still runs."""
SETTLED_SECONDS = 9.0
"""Within this time of the answers no outcome is unknown. It is longer than the leases of the killed gateway."""
DELETED = "no image"


class UpdateAgainstUpdate:
    """Two replacements, or a replacement and a deletion, both on condition of the version that both have read."""

    name: ClassVar[str] = "If-Match, If-Match"
    refusal: ClassVar[int | None] = 412

    def __init__(self, rng: random.Random) -> None:
        self._token = secrets.token_hex(8)
        self._methods = rng.choice(METHODS)
        # Half of the images are still being rendered when the race begins.
        self._wait = {"Prefer": "wait=15"} if rng.random() < 0.5 else {}
        self._id = self._version = ""
        self._answers: list[Answer] | None = None
        self._answered = 0.0

    async def prepare(self, front: Front) -> None:
        files, owner = {"image": ("before.jpg", BEFORE)}, {"user_id": self._token}
        answer = await front.ask("POST", "/images", params=owner, files=files, headers=self._wait)
        assert answer.is_success, answer
        self._id, self._version = answer.body["image_id"], answer.body["version"]

    async def send(self, number: int, front: Front) -> Answer:
        headers = {"If-Match": f'"{self._version}"'}
        if self._methods[number] == "DELETE":
            return await front.ask("DELETE", f"/images/{self._id}", headers=headers)
        headers["Idempotency-Key"] = f"{self._token}-{number}"
        files = {"image": (self._result(number), AFTER[number])}
        return await front.ask("PUT", f"/images/{self._id}", files=files, headers=headers)

    def _result(self, number: int) -> str:
        """What the gateway shows after this update: the name of the image's file, or that there is none."""
        return DELETED if self._methods[number] == "DELETE" else f"after-{number}.jpg"

    async def broken(self, view: View) -> Collection[str]:
        if self._answers is None:
            self._answers, self._answered = list(view.answers), time.monotonic()
        for number, answer in enumerate(self._answers):
            if answer.status in UNKNOWN:
                self._answers[number] = await self.send(number, view.fronts[0])
        if any(answer.status in UNKNOWN for answer in self._answers):
            return {"no answer"} if time.monotonic() - self._answered > SETTLED_SECONDS else []
        acknowledged = [number for number, answer in enumerate(self._answers) if answer.is_success]
        if len(acknowledged) == 2:
            return {"both acknowledged"}
        # A deletion whose answer was lost gets 404 when it is repeated.
        expected = {self._result(number) for number in acknowledged or range(2)}
        shown = {await self._shown(front) for front in view.fronts} - {None}
        return {f"{what} in place of {' or '.join(sorted(expected))}" for what in shown if what not in expected}

    async def _shown(self, front: Front) -> str | None:
        """What this gateway shows; None if it cannot read the image now."""
        found = await front.ask("GET", f"/images/{self._id}/metadata", fresh=True)
        if found.status == 404:
            return DELETED
        if not found.is_success:
            return None
        name: str = (found.body["pending"] or found.body)["file_name"]
        return name
