"""Records for tests: small, valid, and different where a test compares them."""

from datetime import UTC, datetime
from uuid import UUID

from shared.contract.events import (
    CommandType,
    Current,
    Deleted,
    Failed,
    Failure,
    Original,
    OwnerCleared,
    Ready,
    Removed,
    Replaced,
    Reprocess,
    Request,
    Superseded,
    SupersededBy,
    Uploaded,
    Variant,
)
from shared.contract.keys import Owner, new_id, original_key, variant_key
from shared.contract.ladder import Ladder
from shared.read_model.documents import media_url

BASE = "https://img.example.org"
OWNER = Owner(type="user", id="1")

POISON: list[bytes | None] = [
    b"not json",
    b"\xff\xfe\x00",
    b"",
    None,
    b'{"type":"image.unheard","schema_version":1}',
    b'{"type":"owner.cleared","schema_version":2,"owner":{"type":"user","id":"1"}}',
    b'{"type":"image.uploaded","schema_version":1,"padding":"' + b"x" * 1_000_000 + b'"}',
    b"[" * 1_000_000,
    b"[" * 1_000,
    b"[" * 500 + b"]" * 500,
    b'{"error":' + b'{"type":' * 900 + b"1" + b"}" * 901,
    b'{"error":"boom","answers":["x"],"version":{}}',
    b'{"image_id":5}',
    b'{"type":["x"],"image_id":"five","owner":"user:1"}',
    b'{"type":"\\u001b[2J","error":{"type":"\\n"}}',
    b'{"type":"\\ud800"}',
]
"""Values that are no valid record."""


def id_at(moment: datetime, tail: int = 0) -> UUID:
    """A UUIDv7 of this moment; `tail` distinguishes those of one millisecond."""
    millis = int(moment.astimezone(UTC).timestamp() * 1000)
    return UUID(int=(millis << 80) | (0x7 << 76) | (0x2 << 62) | tail)


def original(image_id: UUID, revision: UUID, **changes: object) -> Original:
    path = original_key(image_id, revision, "image/jpeg")
    fields: dict[str, object] = {
        "file_name": "cat.jpg",
        "content_type": "image/jpeg",
        "size": 48_231,
        "width": 1600,
        "height": 1200,
        "sha256": "9f" * 32,
        "path": path,
        "url": media_url(BASE, path),
    }
    return Original.model_validate(fields | changes)


def uploaded(
    image_id: UUID | None = None, revision: UUID | None = None, owner: Owner = OWNER, ladder: Ladder | None = None
) -> Uploaded:
    image_id = image_id or new_id()
    revision = revision or new_id()
    return Uploaded(
        image_id=image_id,
        owner=owner,
        revision=revision,
        original=original(image_id, revision),
        ladder=ladder or Ladder(),
    )


def replaced(image_id: UUID, image_version: int, revision: UUID | None = None, owner: Owner = OWNER) -> Replaced:
    revision = revision or new_id()
    return Replaced(
        image_id=image_id,
        owner=owner,
        image_version=image_version,
        revision=revision,
        original=original(image_id, revision, file_name="dog.jpg"),
        ladder=Ladder(),
    )


def reprocess(
    image_id: UUID,
    image_version: int,
    revision: UUID,
    revision_version: int,
    owner: Owner = OWNER,
    ladder: Ladder | None = None,
) -> Reprocess:
    return Reprocess(
        image_id=image_id,
        owner=owner,
        image_version=image_version,
        revision=revision,
        revision_version=revision_version,
        original=original(image_id, revision),
        ladder=ladder or Ladder(full_quality=70),
    )


def deleted(image_id: UUID, owner: Owner = OWNER) -> Deleted:
    return Deleted(image_id=image_id, owner=owner)


def cleared(before: int | None = None, keep: tuple[UUID, ...] = (), owner: Owner = OWNER) -> OwnerCleared:
    return OwnerCleared(owner=owner, before=before, keep=keep)


def request(image_id: UUID, revision: UUID, revision_version: int, **changes: object) -> Request:
    fields = original(image_id, revision, **changes).model_dump()
    return Request(**fields, revision=revision, revision_version=revision_version)


def current(image_id: UUID, revision: UUID, revision_version: int, render: str, **changes: object) -> Current:
    def variant(name: str, width: int, height: int) -> Variant:
        path = variant_key(image_id, revision, render, name)
        return Variant(
            name=name,
            path=path,
            url=media_url(BASE, path),
            content_type="image/webp",
            width=width,
            height=height,
            size=width * height // 20,
            sha256="ab" * 32,
        )

    fields: dict[str, object] = {
        "revision": revision,
        "revision_version": revision_version,
        "render": render,
        "original": original(image_id, revision),
        "thumbhash": "1QcSHQRnh493V4dIh4eXh1h4kJUI",
        "dominant_color": "#7f6f5f",
        "variants": (
            variant("full", 1600, 1200),
            variant("large", 1200, 900),
            variant("medium", 640, 480),
            variant("small", 320, 240),
        ),
    }
    return Current.model_validate(fields | changes)


def ready(
    image_id: UUID,
    revision: UUID,
    version: int,
    *,
    answers: CommandType = "image.uploaded",
    image_version: int | None = None,
    revision_version: int | None = None,
    owner: Owner = OWNER,
    render: str | None = None,
) -> Ready:
    introduced = version if revision_version is None else revision_version
    return Ready(
        image_id=image_id,
        owner=owner,
        version=version,
        answers=answers,
        image_version=version if image_version is None else image_version,
        request=request(image_id, revision, introduced),
        current=current(image_id, revision, introduced, render or Ladder().digest),
    )


def failed(
    image_id: UUID,
    revision: UUID,
    version: int,
    *,
    answers: CommandType = "image.uploaded",
    image_version: int | None = None,
    revision_version: int | None = None,
    owner: Owner = OWNER,
    reason: str = "truncated",
) -> Failed:
    return Failed(
        image_id=image_id,
        owner=owner,
        version=version,
        answers=answers,
        image_version=version if image_version is None else image_version,
        request=request(image_id, revision, version if revision_version is None else revision_version),
        error=Failure(type=reason, detail="The file ends before the picture does."),
    )


def superseded(
    image_id: UUID,
    revision: UUID,
    version: int,
    by: SupersededBy,
    *,
    answers: CommandType = "image.uploaded",
    image_version: int | None = None,
    owner: Owner = OWNER,
) -> Superseded:
    return Superseded(
        image_id=image_id,
        owner=owner,
        version=version,
        answers=answers,
        image_version=version if image_version is None else image_version,
        request=request(image_id, revision, version),
        superseded_by=by,
    )


def removed(
    image_id: UUID,
    version: int,
    removed_version: int | None = None,
    *,
    answers: CommandType = "image.deleted",
    owner: Owner = OWNER,
) -> Removed:
    return Removed(
        image_id=image_id,
        owner=owner,
        version=version,
        answers=answers,
        removed_version=(version | 1) if removed_version is None else removed_version,
    )
