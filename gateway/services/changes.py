"""Tells the caches of this process which images it has just changed, so that a caller reads its own write."""

from collections.abc import Callable
from uuid import UUID

from shared.contract.keys import Owner

Listener = Callable[[UUID, Owner], None]


class Changes:
    """Writes noted by the gateway's write path, passed on at once to whoever listens."""

    def __init__(self) -> None:
        self._listeners: list[Listener] = []

    def listen(self, callback: Listener) -> None:
        """Call `callback(image_id, owner)` for every change from now on. It must not block or raise."""
        self._listeners.append(callback)

    def note(self, image_id: UUID, owner: Owner) -> None:
        """The row of an image has been written or removed: everything cached about it or its owner is stale."""
        for listener in self._listeners:
            listener(image_id, owner)
