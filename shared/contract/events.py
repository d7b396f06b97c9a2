"""The contract on Kafka: commands, the events that answer them, and the manifest of one render.

Values are JSON of these models (`encoding`), headers are CloudEvents 1.0 in Kafka's binary mode (`headers`). Within
schema version 1 fields are only ever added; readers ignore what they do not know. Versions travel as decimal strings:
they exceed what JavaScript's numbers hold.
"""

from typing import Annotated, Final, Literal
from uuid import UUID

from pydantic import BaseModel, ConfigDict, Field, PlainSerializer

from shared.contract.keys import ORIGINAL_KEY, Owner
from shared.contract.ladder import Ladder

SCHEMA_VERSION: Final = 1

FAILURE_REASONS = {
    "unsupported_format": "The bytes are not PNG, JPEG or WebP.",
    "empty": "The file has no bytes.",
    "truncated": "The file ends before the picture does.",
    "corrupt": "The file's structure contradicts itself.",
    "too_many_pixels": "The picture has more pixels than are decoded here.",
    "too_wide": "A side exceeds what WebP can hold.",
    "undecodable": "The decoder could not read the picture.",
    "encoder_failed": "The picture could not be written as WebP.",
    "crashed_decoder": "The decoder crashed on this picture, twice.",
    "timeout": "Rendering took longer than allowed, twice.",
    "original_lost": "The original is no longer in the bucket.",
}

Version = Annotated[int, PlainSerializer(str, return_type=str, when_used="json")]


class Model(BaseModel):
    """Base of everything on the wire."""

    model_config = ConfigDict(frozen=True, extra="ignore")


class Original(Model):
    """Raw bytes as uploaded. `size` in bytes, `width` and `height` in pixels as displayed.

    `path` is a key that the gateway can have written: no other may be asked of the bucket.
    """

    file_name: str
    content_type: str
    size: int
    width: int
    height: int
    sha256: str
    path: str = Field(pattern=ORIGINAL_KEY)
    url: str


class Request(Original):
    """What the latest upload or replacement asked for: the column group `request`."""

    revision: UUID
    revision_version: Version


class Variant(Model):
    """One rendered size. `size` in bytes, `width` and `height` in pixels."""

    name: str
    path: str
    url: str
    content_type: str
    width: int
    height: int
    size: int
    sha256: str


class Current(Model):
    """What is served: the column group `current`. `notes` says what was changed on the way, if anything."""

    revision: UUID
    revision_version: Version
    render: str
    original: Original
    thumbhash: str
    dominant_color: str
    variants: tuple[Variant, ...]
    notes: tuple[str, ...] = ()


class Failure(Model):
    """Why a request failed; `type` is one of FAILURE_REASONS."""

    type: str
    detail: str


class Record(Model):
    """What every command and event has."""

    schema_version: Literal[1] = SCHEMA_VERSION
    image_id: UUID
    owner: Owner


class Uploaded(Record):
    """A new image; its own version is the image's and the revision's."""

    type: Literal["image.uploaded"] = "image.uploaded"
    revision: UUID
    original: Original
    ladder: Ladder


class Replaced(Record):
    """A new revision of an image; `image_version` is copied from the row."""

    type: Literal["image.replaced"] = "image.replaced"
    image_version: Version
    revision: UUID
    original: Original
    ladder: Ladder


class Deleted(Record):
    """The image goes, for good."""

    type: Literal["image.deleted"] = "image.deleted"


class Reprocess(Record):
    """Render a revision once more, with this ladder; both versions are copied from the row."""

    type: Literal["image.reprocess"] = "image.reprocess"
    image_version: Version
    revision: UUID
    revision_version: Version
    original: Original
    ladder: Ladder


class OwnerCleared(Model):
    """The fence: images of the owner with a version below `before` go, but for `keep`. None: before this record."""

    schema_version: Literal[1] = SCHEMA_VERSION
    type: Literal["owner.cleared"] = "owner.cleared"
    owner: Owner
    before: Version | None = None
    keep: tuple[UUID, ...] = ()


RenderCommand = Uploaded | Replaced | Reprocess
ImageCommand = RenderCommand | Deleted
Command = ImageCommand | OwnerCleared
CommandType = Literal["image.uploaded", "image.replaced", "image.deleted", "image.reprocess"]


class Answer(Record):
    """What every answer but `removed` has: the request it answers, whole. `version` is that of the command."""

    version: Version
    answers: CommandType
    image_version: Version
    request: Request


class Ready(Answer):
    """The variants are in the bucket."""

    type: Literal["image.ready"] = "image.ready"
    current: Current


class Failed(Answer):
    """The picture cannot be rendered; what was served before still is."""

    type: Literal["image.failed"] = "image.failed"
    error: Failure


class SupersededBy(Model):
    """The later render that made this command moot."""

    revision: UUID
    revision_version: Version
    render: str


class Superseded(Answer):
    """A later render was ready before this command was handled; nothing changed."""

    type: Literal["image.superseded"] = "image.superseded"
    superseded_by: SupersededBy


class Removed(Record):
    """The image is gone. `removed_version` is the timestamp of the deletion in the index."""

    type: Literal["image.removed"] = "image.removed"
    version: Version
    answers: CommandType
    removed_version: Version


Event = Ready | Failed | Superseded | Removed


class Manifest(Model):
    """Write-once result of one render: the event as first answered, whole, for replays and rebuilds."""

    schema_version: Literal[1] = SCHEMA_VERSION
    render: str
    event: Annotated[Ready | Failed, Field(discriminator="type")]

    @property
    def precedence(self) -> tuple[int, int]:
        """Order among an image's renders: revision first, then the rendering command. Never an id or a clock."""
        return (self.event.request.revision_version, self.event.version)


def event_key(event: Event) -> bytes:
    """Compaction key: one per answered command, `removed` included.

    With one key per image a `removed` repeated for an early command would displace that of a later one, and with it
    the only deletion whose timestamp is above that command's row.
    """
    return answer_key(event.image_id, event.version)


def answer_key(image_id: UUID, version: int) -> bytes:
    """Key of the event that answers the command of this version."""
    return f"{image_id}:{version}".encode()
