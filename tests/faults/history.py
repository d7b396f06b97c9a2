"""The requests of clients with their answers, and the state after the stack has recovered. Data only."""

from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import Self


class Kind(StrEnum):
    UPLOAD = "upload"
    REPLACE = "replace"
    DELETE = "delete"
    CLEAR = "clear"


class Result(StrEnum):
    """What the client knows about its request: acknowledged, certainly refused, or unknown."""

    OK = "ok"
    REFUSED = "refused"
    UNKNOWN = "unknown"


@dataclass(frozen=True)
class Operation:
    """One request, retries under one Idempotency-Key included. Times are seconds of one monotonic clock.

    `sha256` is that of the bytes sent, unique to the operation; `renderable` is whether a decoder can read them.
    """

    kind: Kind
    owner: str
    result: Result
    started: float
    ended: float
    image_id: str | None = None
    sha256: str | None = None
    renderable: bool = True


@dataclass(frozen=True)
class FoundImage:
    """An image as the API shows it at the end."""

    image_id: str
    owner: str
    status: str
    error_type: str | None
    served_sha256: str
    variants: int


@dataclass(frozen=True)
class FinalState:
    """Everything that is observable at the end. `listed` may hold an image twice: that is what the checker is for."""

    listed: tuple[FoundImage, ...]
    object_keys: frozenset[str]
    dead_letters: int = 0
    unreadable: frozenset[str] = field(default_factory=frozenset)
    """Ids whose served bytes could not be fetched, or had another checksum than the document says."""
    disordered: frozenset[str] = field(default_factory=frozenset)
    """Ids of images of which a later command was answered before an earlier one."""

    def without(self, image_ids: Iterable[str]) -> Self:
        """Without the objects of images that were there before the history began."""
        prefixes = tuple(f"images/{image_id}/" for image_id in image_ids)
        return replace(self, object_keys=frozenset(key for key in self.object_keys if not key.startswith(prefixes)))
