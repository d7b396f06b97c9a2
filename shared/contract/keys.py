"""Names: ids, owners, versions, object keys, days and shards. Pure: everything is derived, nothing is looked up."""

import hashlib
import re
import unicodedata
from datetime import UTC, date, datetime
from typing import NamedTuple, Self
from urllib.parse import unquote, urlsplit
from uuid import UUID

import uuid_utils.compat
from pydantic import BaseModel, ConfigDict, field_validator

EXTENSIONS = {"image/jpeg": "jpg", "image/png": "png", "image/webp": "webp"}
CONTENT_TYPES = {extension: content_type for content_type, extension in EXTENSIONS.items()}
RESERVED_OWNER_TYPE = "image"
MAX_OWNER_ID = 128
"""Characters, not bytes."""

IMAGES_PREFIX = "images/"
"""Prefix of every object of every image, but of tombstones."""
TOMBSTONES_PREFIX = "tombstones/"
INCOMING_PREFIX = "incoming/"
MANIFEST_NAME = "manifest.json"
"""Name of the manifest within a render's folder."""

_UUID = r"[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}"
_EXTENSION = "|".join(CONTENT_TYPES)
_RENDER = "[0-9a-f]{16}(?:-[0-9]+)?"
_ORIGINAL = rf"{IMAGES_PREFIX}({_UUID})/({_UUID})/original\.(?:{_EXTENSION})"
ORIGINAL_KEY = rf"^{_ORIGINAL}$"
"""What `original_key` gives, as a pattern."""
_ORIGINAL_PATH = re.compile(rf"(?:^|/){_ORIGINAL}$")
_MEDIA_PATH = re.compile(
    rf"{IMAGES_PREFIX}(?P<image_id>{_UUID})/(?P<revision>{_UUID})/"
    rf"(?:original\.(?P<extension>{_EXTENSION})|(?P<render>{_RENDER})/(?P<variant>[a-z][a-z0-9_]{{0,31}})\.webp)"
)
_OBJECT_KEY = re.compile(
    rf"{IMAGES_PREFIX}(?P<image_id>{_UUID})/(?P<revision>{_UUID})/"
    rf"(?:original\.(?:{_EXTENSION})|(?P<render>{_RENDER})/(?P<name>[a-z0-9_.]+))"
)


def new_id() -> UUID:
    """A fresh UUIDv7: ids of one process ascend, ids of all processes cluster by time."""
    return uuid_utils.compat.uuid7()


class Ids(NamedTuple):
    """Ids of an image and of one revision of it. Made before the first try; every retry uses the same (invariant 8)."""

    image_id: UUID
    revision: UUID

    @classmethod
    def mint(cls) -> Self:
        """Fresh ids."""
        return cls(new_id(), new_id())


def uploaded_at(image_id: UUID) -> datetime:
    """UTC time in an id, to the millisecond; a pure function, so that every record says the same."""
    return datetime.fromtimestamp((image_id.int >> 80) / 1000, UTC)


def day_of(image_id: UUID) -> date:
    """UTC day on which the id was made."""
    return uploaded_at(image_id).date()


def shard_of(image_id: UUID, shards: int) -> int:
    """Shard (0 to shards - 1) of the image in its day's partition set."""
    return _stable_hash(str(image_id)) % shards


def events_partition(image_id: UUID, partitions: int) -> int:
    """Partition of every event of the image: set explicitly, because an image's events have different keys."""
    return _stable_hash(str(image_id)) % partitions


def _stable_hash(text: str) -> int:
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8])


class Owner(BaseModel):
    """Whom an image belongs to: a type such as `user` and an id, any text."""

    model_config = ConfigDict(frozen=True)

    type: str
    id: str

    @field_validator("type")
    @classmethod
    def _check_type(cls, value: str) -> str:
        if not re.fullmatch(r"[a-z][a-z0-9_]{0,31}", value):
            raise ValueError("owner_type must match [a-z][a-z0-9_]{0,31}")
        return value

    @field_validator("id")
    @classmethod
    def _check_id(cls, value: str) -> str:
        if not 1 <= len(value) <= MAX_OWNER_ID:
            raise ValueError(f"owner_id must have 1 to {MAX_OWNER_ID} characters")
        # Cc: control, Cs: lone surrogates, which have no UTF-8 form.
        if any(unicodedata.category(char) in ("Cc", "Cs") for char in value):
            raise ValueError("owner_id must not contain control characters")
        return value

    @classmethod
    def of_image(cls, image_id: UUID) -> Self:
        """Owner of an upload without a key: the image itself."""
        return cls(type=RESERVED_OWNER_TYPE, id=str(image_id))

    @property
    def key(self) -> str:
        """`type:id`, the Kafka key. Unambiguous: a type holds no colon."""
        return f"{self.type}:{self.id}"

    @property
    def digest(self) -> str:
        """SHA-256 of the key in hex, for places where the id itself could be misread (S3 prefixes, policies)."""
        return hashlib.sha256(self.key.encode()).hexdigest()


class DayShard(NamedTuple):
    """One partition of the global list: a share of the images of a UTC day."""

    day: date
    shard: int


Partition = Owner | DayShard
"""A partition of the index in which images lie newest first."""


def command_version(epoch: int, offset: int) -> int:
    """Version of the command at this offset (invariant 2). No clock is involved."""
    return (epoch << 52) | (offset << 1)


def answer_version(version: int) -> int:
    """Version of what answers the command of this version."""
    return version | 1


def image_prefix(image_id: UUID) -> str:
    """Prefix of every object of an image but its tombstone."""
    return f"{IMAGES_PREFIX}{image_id}/"


def revision_prefix(image_id: UUID, revision: UUID) -> str:
    """Prefix of every object of one revision."""
    return f"{image_prefix(image_id)}{revision}/"


def original_key(image_id: UUID, revision: UUID, content_type: str) -> str:
    """Key of the raw bytes as uploaded. Raises KeyError for a type that is not accepted."""
    return f"{revision_prefix(image_id, revision)}original.{EXTENSIONS[content_type]}"


def render_prefix(image_id: UUID, revision: UUID, render: str) -> str:
    """Prefix of the variants and the manifest of one render."""
    return f"{revision_prefix(image_id, revision)}{render}/"


def variant_key(image_id: UUID, revision: UUID, render: str, name: str) -> str:
    """Key of one variant."""
    return f"{render_prefix(image_id, revision, render)}{name}.webp"


def manifest_key(image_id: UUID, revision: UUID, render: str) -> str:
    """Key of the write-once record of a render's result."""
    return f"{render_prefix(image_id, revision, render)}{MANIFEST_NAME}"


def is_manifest(key: str) -> bool:
    """Whether an object is a manifest, by its key."""
    return key.endswith(f"/{MANIFEST_NAME}")


def tombstone_key(image_id: UUID) -> str:
    """Key of the record that the image was deleted; outlives the image's prefix."""
    return f"{TOMBSTONES_PREFIX}{image_id}"


def incoming_prefix(owner: Owner) -> str:
    """Prefix under which a temporary key of this owner may put objects."""
    return f"{INCOMING_PREFIX}{owner.digest}/"


class MediaPath(NamedTuple):
    """A parsed path of an original (`render` and `variant` None) or of a variant (`content_type` image/webp)."""

    path: str
    image_id: UUID
    revision: UUID
    render: str | None
    variant: str | None
    content_type: str


def parse_media_path(path: str) -> MediaPath | None:
    """The parts of an original's or variant's key; None for anything else, such as a manifest."""
    match = _MEDIA_PATH.fullmatch(path)
    if match is None:
        return None
    extension = match["extension"]
    return MediaPath(
        path, UUID(match["image_id"]), UUID(match["revision"]), match["render"], match["variant"],
        CONTENT_TYPES[extension] if extension else "image/webp",
    )  # fmt: skip


class ObjectKey(NamedTuple):
    """A parsed key under `images/`. Of an original `render` and `name` are None; otherwise the file in that folder."""

    image_id: UUID
    revision: UUID
    render: str | None
    name: str | None


def parse_object_key(key: str) -> ObjectKey | None:
    """The parts of the key of an original, a manifest or any file beside it; None for any other key."""
    match = _OBJECT_KEY.fullmatch(key)
    if match is None:
        return None
    return ObjectKey(UUID(match["image_id"]), UUID(match["revision"]), match["render"], match["name"])


def image_id_from_url(url: str) -> UUID | None:
    """Id in the URL of an original, whatever its host and prefix; None where it is none of ours."""
    try:
        path = unquote(urlsplit(url.strip()).path)
    except ValueError:
        return None
    match = _ORIGINAL_PATH.search(path)
    return UUID(match[1]) if match else None
