"""Notifies the caches of this process of the images that it has changed, so that a client reads its own writes."""

from collections.abc import Callable
from uuid import UUID

from shared.contract.keys import Owner

Listener = Callable[[UUID | None, Owner], None]
"""Function that gets the changed image and its owner. None in place of the image means every image of the owner."""


class Changes:
    """Passes each change of the write path to all listeners, at once."""

    def __init__(self) -> None:
        self._listeners: list[Listener] = []

    def listen(self, callback: Listener) -> None:
        """Call `callback(image_id, owner)` for every change from now on. It must neither block nor raise."""
        self._listeners.append(callback)

    def notify(self, image_id: UUID | None, owner: Owner) -> None:
        """The row of an image was written or removed: all that is cached about the image or its owner is stale.

        Without an image, all that is cached about any image of the owner is stale.
        """
        for listener in self._listeners:
            listener(image_id, owner)
