"""Notifies the caches of this process of changed images, so that a client reads its own writes, and answers early."""

from collections.abc import Callable
from uuid import UUID

from shared.contract.keys import Owner

Listener = Callable[[UUID | None, Owner], None]
"""Function that gets the changed image and its owner. None in place of the image means every image of the owner."""


Interest = Callable[[UUID, Owner], bool]
"""Function that returns whether a change of this image would change what the cache has."""


class Changes:
    """Passes each change to all caches, at once."""

    def __init__(self) -> None:
        self._listeners: list[Listener] = []
        self._interests: list[Interest] = []

    def listen(self, callback: Listener, interest: Interest = lambda _image_id, _owner: False) -> None:
        """Call `callback(image_id, owner)` for every change from now on. It must neither block nor raise."""
        self._listeners.append(callback)
        self._interests.append(interest)

    def concern(self, image_id: UUID, owner: Owner) -> bool:
        """Whether a change of this image would change what some cache has."""
        return any(interest(image_id, owner) for interest in self._interests)

    def notify(self, image_id: UUID | None, owner: Owner) -> None:
        """The row of an image was written or removed: all that is cached about the image or its owner is stale.

        Without an image, all that is cached about any image of the owner is stale.
        """
        for listener in self._listeners:
            listener(image_id, owner)
