"""Uploads whose original is in the bucket, for tests of a processor without a gateway."""

import hashlib
from typing import Any

from shared.contract.events import Original, Uploaded
from shared.contract.image_header import inspect
from shared.contract.keys import Owner, new_id, original_key
from shared.ports import ObjectStore
from shared.read_model.documents import media_url

MAX_PIXELS = 64_000_000
MAX_SIDE = 16_383


async def put_upload(store: ObjectStore, owner: Owner, data: bytes, base_url: str, **fields: Any) -> Uploaded:
    """Store an original; returns the command of its upload."""
    image_id, revision = new_id(), new_id()
    info = inspect(data, max_pixels=MAX_PIXELS, max_side=MAX_SIDE)
    path = original_key(image_id, revision, info.content_type)
    await store.put(path, data, info.content_type)
    original = Original(
        file_name="photo",
        content_type=info.content_type,
        size=len(data),
        width=info.width,
        height=info.height,
        sha256=hashlib.sha256(data).hexdigest(),
        path=path,
        url=media_url(base_url, path),
    )
    return Uploaded(image_id=image_id, owner=owner, revision=revision, original=original, **fields)
