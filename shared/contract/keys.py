"""Names: ids, owners, versions, object keys, days and shards. Pure functions, without any input or output."""

import hashlib
import re
import time
import unicodedata
from datetime import UTC, date, datetime
from functools import lru_cache
from typing import Final, NamedTuple, Self
from urllib.parse import unquote, urlsplit
from uuid import UUID

import uuid_utils.compat
from pydantic import BaseModel, ConfigDict, Field, field_validator

EXTENSIONS = {"image/jpeg": "jpg", "image/png": "png", "image/webp": "webp"}
"""Of originals: what is accepted."""
VARIANT_EXTENSIONS = {"image/webp": "webp", "image/jpeg": "jpg", "image/avif": "avif"}
"""Of variants: what a ladder can name."""
CONTENT_TYPES = {extension: content_type for content_type, extension in EXTENSIONS.items()}
_VARIANT_TYPES = {extension: content_type for content_type, extension in VARIANT_EXTENSIONS.items()}
RESERVED_OWNER_TYPE = "image"
MAX_OWNER_ID = 128
"""Maximum length of an owner's id in characters, not bytes."""

MAX_INT: Final = 2**31 - 1
"""Largest value of Cassandra's type `int`."""
MAX_BIGINT: Final = 2**63 - 1
"""Largest value of Cassandra's type `bigint`, and its latest timestamp of a write. Versions are both."""
END_OF_TIME: Final = int(datetime(9999, 1, 1, tzinfo=UTC).timestamp() * 1000)
"""Milliseconds since 1970 up to the year 9999. A UUIDv7 can be as late as the year 10889, which Python's dates, and
therefore the Cassandra driver, cannot represent. The year 9999 is left out, so that each day has a next day."""

MAX_AHEAD_MS: Final = 60_000
"""How far ids may be ahead of the clock, so that they ascend if the clock is set back a little. uuid_utils has no
limit: after a jump forward and back, a process made ids of the wrong time until its end."""

KEPT_IDS = 1024
"""Ids whose time and shard are kept: the rows of one image need them several times."""

IMAGES_PREFIX = "images/"
"""Prefix of all originals, variants and manifests."""
TOMBSTONES_PREFIX = "tombstones/"
INCOMING_PREFIX = "incoming/"
MANIFEST_NAME = "manifest.json"
"""Name of the manifest within a render's folder."""
MARKERS_FOLDER = "-ready"
"""Name of the folder with an image's markers. `-` sorts before every id, so a listing of an image begins with it."""
COMPLETE_NAME = "-complete"
"""Name of the object that says that an image's markers are complete. It sorts before every marker."""

_UUID = r"[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}"
_EXTENSION = "|".join(CONTENT_TYPES)
_RENDER = "[0-9a-f]{16}(?:-[0-9]+)?"
_ORIGINAL = rf"{IMAGES_PREFIX}({_UUID})/({_UUID})/original\.(?:{_EXTENSION})"
ORIGINAL_KEY = rf"^{_ORIGINAL}$"
"""Pattern of the keys that `original_key` returns."""
_ORIGINAL_PATH = re.compile(rf"(?:^|/){_ORIGINAL}$")
_MEDIA_PATH = re.compile(
    rf"{IMAGES_PREFIX}(?P<image_id>{_UUID})/(?P<revision>{_UUID})/"
    rf"(?:original\.(?P<extension>{_EXTENSION})|(?P<render>{_RENDER})/(?P<variant>[a-z][a-z0-9_]{{0,31}})"
    rf"\.(?P<variant_extension>{'|'.join(VARIANT_EXTENSIONS.values())}))"
)
_OBJECT_KEY = re.compile(
    rf"{IMAGES_PREFIX}(?P<image_id>{_UUID})/(?P<revision>{_UUID})/"
    rf"(?:original\.(?:{_EXTENSION})|(?P<render>{_RENDER})/(?P<name>[a-z0-9_.]+))"
)
_MARKER_KEY = re.compile(
    rf"{IMAGES_PREFIX}(?P<image_id>{_UUID})/{MARKERS_FOLDER}/(?P<revision_version>[0-7][0-9a-f]{{15}})-"
    rf"(?P<version>[0-7][0-9a-f]{{15}})-(?P<revision>{_UUID})-(?P<render>{_RENDER})"
)


def new_id() -> UUID:
    """A new UUIDv7. The ids of one process ascend; the ids of all processes are ordered by time to the millisecond.

    If the clock jumps back by more than MAX_AHEAD_MS, the ids follow it, and those of the same millisecond are not
    ordered until the clock reaches its former time.
    """
    ascending = uuid_utils.compat.uuid7()
    now = time.time_ns()
    if ascending.int >> 80 > now // 1_000_000 + MAX_AHEAD_MS:
        return uuid_utils.compat.uuid7(nanoseconds=now)
    return ascending


def is_image_id(image_id: UUID) -> bool:
    """Whether an image can have this id: a UUIDv7 from before the year 9999."""
    return image_id.version == 7 and image_id.int >> 80 < END_OF_TIME


class Ids(NamedTuple):
    """Ids of an image and of one revision. They are made before the first attempt; retries reuse them (invariant 8)."""

    image_id: UUID
    revision: UUID

    @classmethod
    def mint(cls) -> Self:
        """Make new ids."""
        return cls(new_id(), new_id())


@lru_cache(KEPT_IDS)
def uploaded_at(image_id: UUID) -> datetime:
    """UTC time in an id, to the millisecond. It depends on the id only: all records of an image have the same time.

    Raises ValueError for some ids for which `is_image_id` is false.
    """
    return datetime.fromtimestamp((image_id.int >> 80) / 1000, UTC)


def day_of(image_id: UUID) -> date:
    """UTC day on which the id was made."""
    return uploaded_at(image_id).date()


@lru_cache(KEPT_IDS)
def shard_of(image_id: UUID, shards: int) -> int:
    """Shard (0 to shards - 1) of the image among the partitions of its day."""
    return _stable_hash(str(image_id)) % shards


def events_partition(image_id: UUID, partitions: int) -> int:
    """Partition of all events of the image. It is set explicitly, because these events have different keys."""
    return _stable_hash(str(image_id)) % partitions


def _stable_hash(text: str) -> int:
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8])


class Owner(BaseModel):
    """The owner of an image: a type such as `user`, and an id, which is any text."""

    model_config = ConfigDict(frozen=True)

    type: str = Field(json_schema_extra={"pattern": "^[a-z][a-z0-9_]{0,31}$"})
    id: str = Field(json_schema_extra={"minLength": 1, "maxLength": MAX_OWNER_ID})

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
        # Cc are control characters. Cs are lone surrogates, which UTF-8 cannot encode.
        if any(unicodedata.category(char) in ("Cc", "Cs") for char in value):
            raise ValueError("owner_id must not contain control characters")
        return value

    @classmethod
    def of_image(cls, image_id: UUID) -> Self:
        """Owner of an image that was uploaded without an owner: the image itself."""
        return cls(type=RESERVED_OWNER_TYPE, id=str(image_id))

    @property
    def key(self) -> str:
        """`type:id`, the key of the owner's commands in Kafka. It is unambiguous, because a type contains no colon."""
        return f"{self.type}:{self.id}"

    @property
    def digest(self) -> str:
        """SHA-256 of the key in hex, for S3 prefixes and policies, in which characters of an id have a meaning."""
        return hashlib.sha256(self.key.encode()).hexdigest()


class DayShard(NamedTuple):
    """One partition of the list of all images: a shard of a UTC day."""

    day: date
    shard: int


Partition = Owner | DayShard
"""A partition of the index. Its images are ordered from the newest to the oldest."""


def command_version(epoch: int, offset: int) -> int:
    """Version of the command at this offset (invariant 2). It depends on no clock."""
    return (epoch << 52) | (offset << 1)


def answer_version(version: int) -> int:
    """Version of the answer to the command with this version."""
    return version | 1


def image_prefix(image_id: UUID) -> str:
    """Prefix of all objects of an image except its tombstone."""
    return f"{IMAGES_PREFIX}{image_id}/"


def revision_prefix(image_id: UUID, revision: UUID) -> str:
    """Prefix of all objects of one revision."""
    return f"{image_prefix(image_id)}{revision}/"


def original_key(image_id: UUID, revision: UUID, content_type: str) -> str:
    """Key of the original. Raises KeyError for a content type that is not accepted."""
    return f"{revision_prefix(image_id, revision)}original.{EXTENSIONS[content_type]}"


def render_prefix(image_id: UUID, revision: UUID, render: str) -> str:
    """Prefix of the variants and the manifest of one render."""
    return f"{revision_prefix(image_id, revision)}{render}/"


def variant_key(image_id: UUID, revision: UUID, render: str, name: str, content_type: str = "image/webp") -> str:
    """Key of one variant. Raises KeyError for a content type that no ladder can name."""
    return f"{render_prefix(image_id, revision, render)}{name}.{VARIANT_EXTENSIONS[content_type]}"


def manifest_key(image_id: UUID, revision: UUID, render: str) -> str:
    """Key of the manifest of one render."""
    return f"{render_prefix(image_id, revision, render)}{MANIFEST_NAME}"


def is_manifest(key: str) -> bool:
    """Whether this key is the key of a manifest."""
    return key.endswith(f"/{MANIFEST_NAME}")


def reprocess_version(render: str) -> int | None:
    """Version of the reprocess that made this render; None for a render of an upload or a replacement."""
    version = render.partition("-")[2]
    return int(version) if version else None


def markers_prefix(image_id: UUID) -> str:
    """Prefix of the image's markers."""
    return f"{image_prefix(image_id)}{MARKERS_FOLDER}/"


def markers_complete_key(image_id: UUID) -> str:
    """Key of the object that says that the image's markers are complete."""
    return f"{markers_prefix(image_id)}{COMPLETE_NAME}"


class Marker(NamedTuple):
    """The marker of a ready render: an empty object with these values in its key.

    The key begins with the inverted versions, so a listing returns the marker of the latest render first.
    """

    image_id: UUID
    revision_version: int
    version: int
    revision: UUID
    render: str

    @property
    def key(self) -> str:
        """Key of the marker."""
        versions = f"{MAX_BIGINT - self.revision_version:016x}-{MAX_BIGINT - self.version:016x}"
        return f"{markers_prefix(self.image_id)}{versions}-{self.revision}-{self.render}"

    @property
    def manifest_key(self) -> str:
        """Key of the manifest of the marked render."""
        return manifest_key(self.image_id, self.revision, self.render)

    @property
    def precedence(self) -> tuple[int, int]:
        """Order of the marked render among the renders of the image. Compare it with `Manifest.precedence`."""
        return (self.revision_version, self.version)


def parse_marker(key: str) -> Marker | None:
    """Parse the key of a marker; None for any other key."""
    match = _MARKER_KEY.fullmatch(key)
    if match is None:
        return None
    revision_version, version = (MAX_BIGINT - int(match[name], 16) for name in ("revision_version", "version"))
    return Marker(UUID(match["image_id"]), revision_version, version, UUID(match["revision"]), match["render"])


def tombstone_key(image_id: UUID) -> str:
    """Key of the image's tombstone. It is kept after all other objects of the image are deleted."""
    return f"{TOMBSTONES_PREFIX}{image_id}"


def incoming_prefix(owner: Owner) -> str:
    """Prefix under which clients with a temporary S3 key of this owner may put objects."""
    return f"{INCOMING_PREFIX}{owner.digest}/"


class MediaPath(NamedTuple):
    """The parsed key of an original (`render` and `variant` are None) or a variant."""

    path: str
    image_id: UUID
    revision: UUID
    render: str | None
    variant: str | None
    content_type: str


def parse_media_path(path: str) -> MediaPath | None:
    """Parse the key of an original or a variant; None for any other key, such as that of a manifest."""
    match = _MEDIA_PATH.fullmatch(path)
    if match is None:
        return None
    original, variant = match["extension"], match["variant_extension"]
    return MediaPath(
        path, UUID(match["image_id"]), UUID(match["revision"]), match["render"], match["variant"],
        CONTENT_TYPES[original] if original else _VARIANT_TYPES[variant],
    )  # fmt: skip


class ObjectKey(NamedTuple):
    """A parsed key under `images/`. For an original `render` and `name` are None; `name` is a file of the render."""

    image_id: UUID
    revision: UUID
    render: str | None
    name: str | None


def parse_object_key(key: str) -> ObjectKey | None:
    """Parse the key of an original, of a manifest, or of another file of a render; None for any other key."""
    match = _OBJECT_KEY.fullmatch(key)
    if match is None:
        return None
    return ObjectKey(UUID(match["image_id"]), UUID(match["revision"]), match["render"], match["name"])


def image_id_from_url(url: str) -> UUID | None:
    """Image id in the URL of an original, with any host and prefix; None for any other URL."""
    try:
        path = unquote(urlsplit(url.strip()).path)
    except ValueError:
        return None
    match = _ORIGINAL_PATH.search(path)
    return UUID(match[1]) if match else None
