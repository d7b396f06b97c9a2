"""Models of the API's documents for OpenAPI. `shared.read_model.documents` makes the documents themselves."""

from typing import Any, Literal
from uuid import UUID

from pydantic import BaseModel, Field

URL = (
    "https://images.example.org/media/images/0199c0de-0000-7000-8000-000000000001/0199c0de-0000-7000-8000-000000000002"
)


class FileDocument(BaseModel):
    """The fields of originals and variants. `size` in bytes, `width` and `height` in pixels."""

    url: str
    path: str
    content_type: str
    width: int
    height: int
    size: int
    sha256: str


class OriginalDocument(FileDocument):
    """The original, as the client uploaded it."""

    file_name: str


class VariantDocument(FileDocument):
    """One variant."""

    name: str


class ErrorDocument(BaseModel):
    """The reason why an image could not be rendered."""

    type: str
    detail: str


class PendingDocument(BaseModel):
    """A replacement that is in progress or has failed. The previous revision is served."""

    revision: UUID
    file_name: str
    status: Literal["processing", "ready", "failed"]
    error: ErrorDocument | None


class SourceDocument(BaseModel):
    """The files of one type, by ascending width. `srcset` is the value of the HTML attribute."""

    type: str
    widths: list[int]
    srcset: str


class FallbackDocument(BaseModel):
    """The file for browsers that know none of the sources, and what to show before it is loaded."""

    src: str
    width: int
    height: int
    thumbhash: str
    dominant_color: str


class PictureDocument(BaseModel):
    """The HTML element `picture` in parts, best type first, and as HTML. Add the text in `alt`, and `sizes`."""

    sources: list[SourceDocument]
    img: FallbackDocument
    html: str


class ListedImageDocument(BaseModel):
    """The status document of an image in a list. `status` is that of the latest upload or replacement.

    `original` and `variants` are what the gateway serves.
    """

    image_id: UUID
    version: str = Field(
        description="Opaque. It changes with each upload or replacement of the image, and with nothing else. Send it "
        "as `If-Match`, so that an update does not overwrite one that you have not seen."
    )
    owner_type: str
    owner_id: str
    status: Literal["processing", "ready", "failed"]
    error: ErrorDocument | None
    file_name: str | None
    size: int | None
    uploaded_at: str = Field(description="UTC, ISO 8601.")
    original: OriginalDocument | None
    variants: list[VariantDocument]
    thumbhash: str | None
    dominant_color: str | None
    srcset: str | None
    notes: list[str]
    pending: PendingDocument | None


class ImageDocument(ListedImageDocument):
    """The status document of an image."""

    picture: PictureDocument | None


class ProblemDocument(BaseModel):
    """An RFC 9457 problem document. `code` never changes."""

    type: str
    title: str
    status: int
    detail: str
    code: str


class ImagesDocument(BaseModel):
    """The response to many files: the status document or the problem document of each, in order."""

    images: list[ImageDocument | ProblemDocument]


class EngineDocument(BaseModel):
    """Whether an engine is available, as the last check of this gateway found. It checks every 10 seconds."""

    available: bool
    since: str = Field(description="UTC, ISO 8601: since when it is so, as this gateway saw it.")


class EnginesDocument(BaseModel):
    """The engines behind the gateway."""

    kafka: EngineDocument
    s3: EngineDocument
    cassandra: EngineDocument


class UploadSlotsDocument(BaseModel):
    """Uploads that this gateway handles at present."""

    in_progress: int
    free: int = Field(description="Further uploads that it accepts. One client address gets a part of them only.")


class LimitsDocument(BaseModel):
    """What the gateway accepts."""

    content_types: list[str]
    file_bytes: int
    pixels: int
    side: int = Field(description="Pixels of the longer side.")
    files_per_request: int


class SystemStatusDocument(BaseModel):
    """The state of the system, for people and for clients that upload."""

    engines: EnginesDocument
    uploads: UploadSlotsDocument
    limits: LimitsDocument
    variants: list[str] = Field(description="Names of the variants that a new image gets, largest first.")


class UploadedDocument(BaseModel):
    """The response of POST /upload."""

    image_id: UUID
    status: Literal["success"]


class KeysDocument(BaseModel):
    """Temporary keys."""

    access_key_id: str
    secret_access_key: str
    session_token: str
    expiration: str = Field(description="UTC, ISO 8601.")


class CredentialsDocument(BaseModel):
    """Temporary keys and the place where they can put objects. `endpoint_url` is null for AWS."""

    endpoint_url: str | None
    region: str
    bucket: str
    prefix: str
    credentials: KeysDocument


EXAMPLE: dict[str, Any] = {
    "image_id": "0199c0de-0000-7000-8000-000000000001",
    "version": "4503599627370496",
    "owner_type": "user",
    "owner_id": "1",
    "status": "processing",
    "error": None,
    "file_name": "dune.jpg",
    "size": 482133,
    "uploaded_at": "2026-11-22T10:00:00.000Z",
    "original": {
        "file_name": "dune.jpg",
        "content_type": "image/jpeg",
        "url": f"{URL}/original.jpg",
        "path": URL.partition("/media/")[2] + "/original.jpg",
        "size": 482133,
        "width": 1600,
        "height": 1067,
        "sha256": "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08",
    },
    "variants": [],
    "thumbhash": None,
    "dominant_color": None,
    "srcset": None,
    "notes": [],
    "pending": None,
    "picture": None,
}
