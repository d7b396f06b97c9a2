"""The contract on Kafka: commands, the events that answer them, and the manifest of one render.

The value of a record is the JSON of one of these models (`encoding`). Its headers are CloudEvents 1.0 in Kafka's binary
mode (`headers`). Within schema version 1 fields may be added, and never changed or removed. Readers ignore unknown
fields. A version is a decimal string in JSON, because it may be larger than JavaScript's numbers allow.
"""

from typing import Annotated, Final, Literal
from uuid import UUID

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, PlainSerializer, WithJsonSchema

from shared.contract.keys import MAX_BIGINT, MAX_INT, ORIGINAL_KEY, Marker, Owner, is_image_id
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
    "encoder_failed": "A variant of the picture could not be written.",
    "crashed_decoder": "The decoder crashed on this picture, twice.",
    "timeout": "Rendering took longer than allowed, twice.",
    "original_lost": "The original is no longer in the bucket.",
}


def _check_image_id(image_id: UUID) -> UUID:
    if not is_image_id(image_id):
        raise ValueError("image_id must be a UUIDv7 from before the year 9999")
    return image_id


# What the contract accepts, Cassandra and Python's datetime can represent: the columns have these types.
ImageId = Annotated[UUID, AfterValidator(_check_image_id)]
Pixels = Annotated[int, Field(ge=0, le=MAX_INT)]
Bytes = Annotated[int, Field(ge=0, le=MAX_BIGINT)]
Version = Annotated[
    int,
    Field(ge=0, le=MAX_BIGINT),
    PlainSerializer(str, return_type=str, when_used="json"),
    WithJsonSchema({"type": "string", "pattern": "^[0-9]{1,19}$"}, mode="serialization"),
]


class Model(BaseModel):
    """Base of all models of records and manifests. The text below a field describes it in the published schema."""

    model_config = ConfigDict(frozen=True, extra="ignore", use_attribute_docstrings=True)


class Original(Model):
    """An uploaded file.

    `path` must match the keys of originals, so that a forged command cannot make a service read another object.
    """

    file_name: str
    """Name that the client gave, for people. It may hold any character except control characters."""
    content_type: str
    """Type of the file as found in its bytes: `image/jpeg`, `image/png` or `image/webp`."""
    size: Bytes
    """Bytes."""
    width: Pixels
    """Pixels as displayed, after the orientation is applied."""
    height: Pixels
    """Pixels as displayed."""
    sha256: str
    """SHA-256 of the file in hex."""
    path: str = Field(pattern=ORIGINAL_KEY)
    """Key of the file in the bucket."""
    url: str
    """Where clients fetch the file."""


class Request(Original):
    """The latest upload or replacement of an image: the column group `request`."""

    revision: UUID
    """Id of the upload or replacement."""
    revision_version: Version
    """Version of the command that brought this revision. The status document has it as `version`."""


class Variant(Model):
    """One rendered size."""

    name: str
    """`full`, or the name of a rung of the ladder, such as `small`."""
    path: str
    """Key of the file in the bucket. It never changes its content."""
    url: str
    """Where clients fetch the file."""
    content_type: str
    """Type of the file, such as `image/webp`."""
    width: Pixels
    """Pixels."""
    height: Pixels
    """Pixels."""
    size: Bytes
    """Bytes."""
    sha256: str
    """SHA-256 of the file in hex."""


class Current(Model):
    """The revision and the variants that are served: the column group `current`."""

    revision: UUID
    """Id of the revision that is served."""
    revision_version: Version
    """Version of the command that brought this revision."""
    render: str
    """Name of the render within the revision."""
    original: Original
    """The file from which the variants were made."""
    thumbhash: str
    """Placeholder of some 25 bytes in base64 (https://evanw.github.io/thumbhash/)."""
    dominant_color: str
    """Colour as `#rrggbb`, for the time before the placeholder is decoded."""
    variants: tuple[Variant, ...]
    """The sizes, largest first."""
    notes: tuple[str, ...] = ()
    """What was changed, such as `animation_flattened`. Missing means none."""


class Failure(Model):
    """Why a request failed."""

    type: str = Field(examples=sorted(FAILURE_REASONS))
    """A reason for programs. Later releases may add reasons: treat an unknown one as a failure."""
    detail: str
    """A sentence for people."""


class Record(Model):
    """Fields of every command and event except the fence."""

    schema_version: Literal[1] = SCHEMA_VERSION
    """A record with another number has another schema."""
    image_id: ImageId
    """Id of the image, a UUIDv7."""
    owner: Owner
    """To whom the image belongs. An image that was uploaded without an owner has the type `image` and its own id."""


class Uploaded(Record):
    """A new image. The version of this command is `image_version` and `revision_version` of the image."""

    type: Literal["image.uploaded"] = "image.uploaded"
    revision: UUID
    original: Original
    ladder: Ladder


class Replaced(Record):
    """A new revision of an image. The gateway copies `image_version` from the row."""

    type: Literal["image.replaced"] = "image.replaced"
    image_version: Version
    revision: UUID
    original: Original
    ladder: Ladder


class Deleted(Record):
    """Delete the image permanently."""

    type: Literal["image.deleted"] = "image.deleted"


class Reprocess(Record):
    """Render a revision again, with this ladder. `image_version` and `revision_version` are copied from the row."""

    type: Literal["image.reprocess"] = "image.reprocess"
    image_version: Version
    revision: UUID
    revision_version: Version
    original: Original
    ladder: Ladder


class OwnerCleared(Model):
    """The fence: delete the owner's images with a version below `before`, except those in `keep`.

    If `before` is None, the bound is the version of this command.
    """

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
    """Fields of every answer except `Removed`."""

    version: Version
    """Version of the answered command. A later command of the image has a higher one."""
    answers: CommandType
    """Type of the answered command."""
    image_version: Version
    """Version of the command that uploaded the image."""
    request: Request
    """The upload or replacement that the command was about."""


class Ready(Answer):
    """The variants are in the bucket."""

    type: Literal["image.ready"] = "image.ready"
    current: Current
    """What is served from now on."""


class Failed(Answer):
    """The image cannot be rendered. The variants that were served before are still served."""

    type: Literal["image.failed"] = "image.failed"
    error: Failure
    """The reason."""


class SupersededBy(Model):
    """The later render that superseded the command."""

    revision: UUID
    """Id of the later revision."""
    revision_version: Version
    """Version of the command that brought it."""
    render: str
    """Name of the render within that revision."""


class Superseded(Answer):
    """A later render was ready before this command was handled, so the command changed nothing."""

    type: Literal["image.superseded"] = "image.superseded"
    superseded_by: SupersededBy
    """The later render."""


class Removed(Record):
    """The image is deleted permanently."""

    type: Literal["image.removed"] = "image.removed"
    version: Version
    """Version of the answered command."""
    answers: CommandType
    """Type of the answered command: a deletion, or a command that came after it."""
    removed_version: Version
    """Timestamp of the deletion in the index."""


Event = Ready | Failed | Superseded | Removed


class Manifest(Model):
    """The result of one render, written once. It holds the full event, so that replays and rebuilds can use it."""

    schema_version: Literal[1] = SCHEMA_VERSION
    render: str
    event: Annotated[Ready | Failed, Field(discriminator="type")]

    @property
    def precedence(self) -> tuple[int, int]:
        """Order among the renders of an image: by revision version, then by command version. No clock, no id."""
        return (self.event.request.revision_version, self.event.version)

    @property
    def marker(self) -> Marker:
        """The marker of this render, which only a ready render has in the bucket."""
        return Marker(self.event.image_id, *self.precedence, self.event.request.revision, self.render)


def event_key(event: Event) -> bytes:
    """Key of an event, by which Kafka compacts the topic: one key for each answered command.

    One key for each image would be wrong. A repeated `image.removed` for an early command would replace the one for a
    later command, and only the later one has a timestamp that deletes the row of the later command.
    """
    return answer_key(event.image_id, event.version)


def answer_key(image_id: UUID, version: int) -> bytes:
    """Key of the event that answers the command of this version."""
    return f"{image_id}:{version}".encode()
