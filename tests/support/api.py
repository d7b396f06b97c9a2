"""A client of a running gateway."""

from collections.abc import Callable
from typing import Any

import httpx

from tests.support.images import encode, photo
from tests.support.waiting import wait_for

READY_SECONDS = 60.0
PNG = encode(photo(40, 30), "PNG")
JPEG = encode(photo(320, 200), "JPEG")


def form(*files: tuple[str, bytes]) -> list[tuple[str, tuple[str, bytes]]]:
    """A multipart form of named files."""
    return [("image", file) for file in files]


class Api(httpx.Client):
    """A client of one gateway."""

    def __init__(self, base_url: str) -> None:
        super().__init__(base_url=base_url, timeout=60)

    def upload(self, data: bytes = JPEG, name: str = "photo.jpg", **owner: str) -> dict[str, Any]:
        """The document of a file that must be accepted."""
        answer = self.post("/images", params=owner, files=form((name, data)))
        assert answer.status_code == 202, answer.text
        document: dict[str, Any] = answer.json()
        return document

    def document(self, image_id: str) -> dict[str, Any] | None:
        """The status document as it is now; None for 404."""
        answer = self.get(f"/images/{image_id}/metadata", headers={"Cache-Control": "no-cache"})
        if answer.status_code == 404:
            return None
        document: dict[str, Any] = answer.raise_for_status().json()
        return document

    def settled(self, image_id: str, accept: Callable[[dict[str, Any]], bool] | None = None) -> dict[str, Any]:
        """The document once it is not processing (or as `accept` says)."""
        done = accept or (lambda found: found["status"] != "processing")

        def look() -> dict[str, Any] | None:
            found = self.document(image_id)
            return found if found is not None and done(found) else None

        return wait_for(look, READY_SECONDS, f"image {image_id} is settled", pause=0.2)

    def ids_of(self, **owner: str) -> list[str]:
        """Ids of an owner's images, newest first."""
        answer = self.get("/images", params=owner, headers={"Cache-Control": "no-cache"})
        return [image["image_id"] for image in answer.raise_for_status().json()]
