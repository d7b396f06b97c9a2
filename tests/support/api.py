"""A client of a running gateway."""

from collections.abc import Callable, Mapping
from typing import Any

import httpx

from imagepipe_client import Client, NotFound, Retry
from tests.support.images import encode, photo
from tests.support.waiting import wait_for

READY_SECONDS = 60.0
PNG = encode(photo(40, 30), "PNG")
JPEG = encode(photo(320, 200), "JPEG")


def form(*files: tuple[str, bytes]) -> list[tuple[str, tuple[str, bytes]]]:
    """A multipart form of named files."""
    return [("image", file) for file in files]


class Api(httpx.Client):
    """A client of one gateway: HTTP itself, and the calls that most tests need, by `imagepipe_client`.

    No call is repeated, so that a test sees each refusal, as a Problem. Owners are given as the API's parameters.
    """

    def __init__(self, base_url: str) -> None:
        super().__init__(base_url=base_url, timeout=60)
        self._client = Client(base_url, http=self, retry=Retry(attempts=1))

    def upload(self, data: bytes = JPEG, name: str = "photo.jpg", **owner: str) -> dict[str, Any]:
        """The document of a file that must be accepted."""
        return dict(self._client.upload(data, name=name, owner=_pair(owner)).raw)

    def document(self, image_id: str) -> dict[str, Any] | None:
        """The status document as it is now; None for 404."""
        try:
            return dict(self._client.get(image_id).raw)
        except NotFound:
            return None

    def settled(self, image_id: str, accept: Callable[[dict[str, Any]], bool] | None = None) -> dict[str, Any]:
        """The document once it is not processing (or as `accept` says)."""
        if accept is None:
            return dict(self._client.wait(image_id, READY_SECONDS).raw)

        def look() -> dict[str, Any] | None:
            found = self.document(image_id)
            return found if found is not None and accept(found) else None

        return wait_for(look, READY_SECONDS, f"image {image_id} is as the test wants it", pause=0.2)

    def ids_of(self, **owner: str) -> list[str]:
        """Ids of an owner's images, newest first."""
        return [image.id for image in self._client.snapshot(_pair(owner)).images]


def _pair(owner: Mapping[str, str]) -> tuple[str, str] | None:
    """The owner of the API's parameters: `owner_type` and `owner_id`, or a shorthand such as `user_id`."""
    if not owner or "owner_type" in owner:
        return (owner["owner_type"], owner["owner_id"]) if owner else None
    [(name, value)] = owner.items()
    return name.removesuffix("_id"), value
