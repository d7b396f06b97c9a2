"""The documents of the API as objects. Fields that a later gateway adds are in `raw`."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Literal, NamedTuple, Self

Json = Mapping[str, Any]
Status = Literal["processing", "ready", "failed"]


class Owner(NamedTuple):
    """To whom an image belongs. The type and the id are your own, such as `Owner("user", "1")`."""

    type: str
    id: str


@dataclass(frozen=True)
class File:
    """A file that is served. `size` in bytes, `width` and `height` in pixels."""

    url: str
    path: str
    content_type: str
    width: int
    height: int
    size: int
    sha256: str

    @classmethod
    def from_json(cls, document: Json) -> Self:
        """The file of a document."""
        return cls(*(document[name] for name in cls.__dataclass_fields__))


@dataclass(frozen=True)
class Original(File):
    """The file that the client uploaded."""

    file_name: str


@dataclass(frozen=True)
class Variant(File):
    """One rendered size, such as `small`."""

    name: str


@dataclass(frozen=True)
class Failure:
    """Why an image could not be rendered: a reason for programs and a sentence for people."""

    type: str
    detail: str

    @classmethod
    def from_json(cls, document: Json | None) -> Self | None:
        """The failure of a document, None if it has none."""
        return cls(document["type"], document["detail"]) if document else None


@dataclass(frozen=True)
class Pending:
    """A replacement that is in progress or has failed, while the previous revision is served."""

    revision: str
    file_name: str
    status: Status
    error: Failure | None

    @classmethod
    def from_json(cls, document: Json | None) -> Self | None:
        """The pending replacement of a document, None if it has none."""
        if document is None:
            return None
        error = Failure.from_json(document["error"])
        return cls(document["revision"], document["file_name"], document["status"], error)


@dataclass(frozen=True)
class Image:
    """The status document of an image. `status` is that of the latest upload or replacement.

    `version` is opaque and changes with each of them (`if_match`). `original` and `variants` (by name, largest first)
    are what the gateway serves.
    """

    id: str
    version: str
    owner: Owner
    status: Status
    error: Failure | None
    file_name: str | None
    size: int | None
    uploaded_at: datetime
    original: Original | None
    variants: Mapping[str, Variant]
    thumbhash: str | None
    dominant_color: str | None
    srcset: str | None
    pending: Pending | None
    raw: Json = field(repr=False)

    @classmethod
    def from_json(cls, document: Json) -> Self:
        """The image of a status document."""
        original = document["original"]
        return cls(
            id=document["image_id"],
            version=document["version"],
            owner=Owner(document["owner_type"], document["owner_id"]),
            status=document["status"],
            error=Failure.from_json(document["error"]),
            file_name=document["file_name"],
            size=document["size"],
            uploaded_at=datetime.fromisoformat(document["uploaded_at"]),
            original=Original.from_json(original) if original else None,
            variants={found["name"]: Variant.from_json(found) for found in document["variants"]},
            thumbhash=document["thumbhash"],
            dominant_color=document["dominant_color"],
            srcset=document["srcset"],
            pending=Pending.from_json(document["pending"]),
            raw=document,
        )


class Snapshot(NamedTuple):
    """A whole list, and the position from which `events` continues it without a gap.

    Some of those events may be in the list already. `position` is None if the gateway could not reach Kafka yet.
    """

    images: list[Image]
    position: str | None


@dataclass(frozen=True)
class TemporaryKeys:
    """S3 keys that can only put objects under `prefix`. `endpoint_url` is None for AWS."""

    endpoint_url: str | None
    region: str
    bucket: str
    prefix: str
    access_key_id: str
    secret_access_key: str = field(repr=False)
    session_token: str = field(repr=False)
    expiration: datetime

    @classmethod
    def from_json(cls, document: Json) -> Self:
        """The keys of the answer of POST /credentials."""
        keys = document["credentials"]
        return cls(
            document["endpoint_url"], document["region"], document["bucket"], document["prefix"],
            keys["access_key_id"], keys["secret_access_key"], keys["session_token"],
            datetime.fromisoformat(keys["expiration"]),
        )  # fmt: skip


@dataclass(frozen=True)
class Event:
    """A live event. `data` is its JSON as in Kafka (docs/events.md).

    `position` is the id with which a later call resumes after this event.
    """

    type: str
    data: Json
    position: str

    @property
    def image_id(self) -> str:
        """Id of the image."""
        return str(self.data["image_id"])

    @property
    def owner(self) -> Owner:
        """Owner of the image."""
        return Owner(**self.data["owner"])

    @property
    def version(self) -> int:
        """Version of the answered command: of two events of an image, the one with the higher version counts."""
        return int(self.data["version"])


@dataclass(frozen=True)
class Resync:
    """The gateway no longer has the events after the given position: read the list again, and go on."""

    position: str
    reason: str
